"""Equilibrium models: Equinox modules whose output is a fixed point, found by optimistix.

Importing this imports equinox and optimistix.
"""

from ._anderson import Anderson as Anderson
from ._mdeq import MDEQ as MDEQ
from ._solve import EquilibriumResult as EquilibriumResult
from ._solve import EquilibriumSolver as EquilibriumSolver
from ._solve import solve as solve
from ._synthetic import Equilibrium as Equilibrium
