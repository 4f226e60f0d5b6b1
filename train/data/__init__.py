"""Data sets: obtained and described once, then arrays in memory."""

from train.data._dataset import Dataset as Dataset
from train.data._dataset import Examples as Examples
from train.data._dataset import stratified_split as stratified_split
from train.data._dataset import subset as subset
from train.data._load import BUILTINS as BUILTINS
from train.data._load import builtin_keys as builtin_keys
from train.data._load import load as load
