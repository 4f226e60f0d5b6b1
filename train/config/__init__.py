"""Configs: TOML into frozen dataclasses, every mistake one clear error."""

from train.config._load import differences as differences
from train.config._load import dump as dump
from train.config._load import load as load
from train.config._parse import GIVEN as GIVEN
from train.config._parse import parse as parse
from train.config._parse import resolved as resolved
from train.config._schema import SECTIONS as SECTIONS
from train.config._schema import Config as Config
from train.config._schema import Data as Data
from train.config._schema import Evaluation as Evaluation
from train.config._schema import Model as Model
from train.config._schema import Optimizer as Optimizer
from train.config._schema import Penalty as Penalty
from train.config._schema import Training as Training
from train.named import Named as Named
from train.tables import read_tables as read_tables
