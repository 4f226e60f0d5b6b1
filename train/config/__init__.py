"""Configs: TOML into frozen dataclasses, every mistake one clear error."""

from train.config._load import differences as differences
from train.config._load import dump as dump
from train.config._load import load as load
from train.config._parse import GIVEN as GIVEN
from train.config._parse import parse as parse
from train.config._parse import resolved as resolved
from train.config._registries import OPTIONS as OPTIONS
