"""Configs: TOML into frozen dataclasses, every mistake one clear error."""

from train.config._load import differences as differences
from train.config._load import dump as dump
from train.config._load import load as load
from train.config._parse import GIVEN as GIVEN
from train.config._parse import parse as parse
from train.config._parse import resolved as resolved
from train.named import Named as Named
from train.sections import SECTIONS as SECTIONS
from train.sections import Config as Config
from train.sections import Data as Data
from train.sections import Evaluation as Evaluation
from train.sections import Model as Model
from train.sections import Optimizer as Optimizer
from train.sections import Penalty as Penalty
from train.sections import Training as Training
from train.tables import read_tables as read_tables
