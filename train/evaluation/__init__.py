"""What a trained model is measured by."""

from train.evaluation._attacks import PIXELS as PIXELS
from train.evaluation._attacks import fgsm as fgsm
from train.evaluation._attacks import pgd as pgd
from train.evaluation._attacks import pgd_l2 as pgd_l2
from train.evaluation._attacks import white_noise as white_noise
from train.evaluation._carlini_wagner import carlini_wagner as carlini_wagner
from train.evaluation._certified import certified as certified
from train.evaluation._classifier import Classifier as Classifier
from train.evaluation._classifier import first as first
from train.evaluation._classifier import jacobian_norm as jacobian_norm
from train.evaluation._classifier import make_clean as make_clean
from train.evaluation._classifier import robustness as robustness
from train.evaluation._classifier import scores as scores
from train.evaluation._decision_cells import cells_of_a_classifier as cells_of_a_classifier
from train.evaluation._decision_cells import decision_cells as decision_cells
from train.evaluation._decision_cells import plane as plane
from train.evaluation._decision_cells import three_classes as three_classes
from train.evaluation._sensitivity import sensitivity as sensitivity
