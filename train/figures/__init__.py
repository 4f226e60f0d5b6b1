"""Figures, drawn from the records of runs alone."""

from train.figures._curves import against_steps as against_steps
from train.figures._curves import curves as curves
from train.figures._curves import panels as panels
from train.figures._curves import plotted as plotted
from train.figures._decision_cells import decision_cells as decision_cells
from train.figures._draw import pyplot as pyplot
from train.figures._draw import save as save
from train.figures._equilibrium import evaluations as evaluations
from train.figures._run import CELLS as CELLS
from train.figures._run import DENSITY as DENSITY
from train.figures._run import DRAWINGS as DRAWINGS
from train.figures._run import EQUILIBRIUM as EQUILIBRIUM
from train.figures._run import REGRESSION as REGRESSION
from train.figures._run import SAMPLES as SAMPLES
from train.figures._run import SCORE_FIELD as SCORE_FIELD
from train.figures._run import SENSITIVITY as SENSITIVITY
from train.figures._run import draw_run as draw_run
from train.figures._sensitivity import sensitivity as sensitivity
from train.figures._sensitivity import spectra as spectra
