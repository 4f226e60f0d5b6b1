"""Data sets: obtained and described once, then arrays in memory."""

from train.data._dataset import Dataset as Dataset
from train.data._dataset import Examples as Examples
from train.data._dataset import finite_float32 as finite_float32
from train.data._dataset import map_targets as map_targets
from train.data._dataset import random_split as random_split
from train.data._dataset import stratified_split as stratified_split
from train.data._dataset import subset as subset
from train.data._densities import LOG_DENSITIES as LOG_DENSITIES
from train.data._densities import SCORES as SCORES
from train.data._densities import true_log_density as true_log_density
from train.data._densities import true_score as true_score
from train.data._functions import FUNCTIONS as FUNCTIONS
from train.data._functions import KnownFunction as KnownFunction
from train.data._load import BUILTINS as BUILTINS
from train.data._load import builtin_keys as builtin_keys
from train.data._load import load as load
from train.data._pixels import Pixels as Pixels
