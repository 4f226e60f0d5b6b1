"""The registry of data sets, and loading what a config's `[data]` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.data import _toy
from train.data._builtin import digits, mnist_5k
from train.data._dataset import Dataset, subset
from train.data._folder import load_folder
from train.data._functions import function_1d, function_2d, synthetic_equilibrium
from train.data._hub import load_hub
from train.data._pixels import refuse_keys
from train.data._tables import csv_table
from train.data._uci import parkinsons, red_wine, white_wine
from train.errors import DataError, shown
from train.expect import Key, keys_of, nearest

if TYPE_CHECKING:
    from train.sections import Data

# Of a table `data.path` says where the bytes are, and the name how they are prepared: its row is
# `(section, *, options) -> Dataset`.
TABLES: Mapping[str, Callable[..., Dataset]] = {
    "csv": csv_table,
    "red-wine": red_wine,
    "white-wine": white_wine,
    "parkinsons": parkinsons,
}
# A row is `(*, options) -> Dataset`; its keyword-only parameters are further keys of `[data]`.
BUILTINS: Mapping[str, Callable[..., Dataset]] = {
    "mnist-5k": mnist_5k,
    "digits": digits,
    "two-moons": _toy.two_moons,
    "circles": _toy.circles,
    "swiss-roll": _toy.swiss_roll,
    "8-gaussians": _toy.eight_gaussians,
    "pinwheel": _toy.pinwheel,
    "rings": _toy.rings,
    "2-spirals": _toy.two_spirals,
    "checkerboard": _toy.checkerboard,
    "gaussian": _toy.gaussian,
    "gaussian-mixture": _toy.gaussian_mixture,
    "function-1d": function_1d,
    "function-2d": function_2d,
    "synthetic-equilibrium": synthetic_equilibrium,
    **TABLES,
}


def builtin_keys(name: str) -> dict[str, Key]:
    """Return the options of a built-in as config keys; another name has none."""
    return keys_of(BUILTINS[name]) if name in BUILTINS else {}


def load(options: Data) -> Dataset:
    """Return the data set of `[data]`: what Python gave, else `path`, else a built-in, else
    the hub's.

    A table's name (`TABLES`) goes with its path; any other name gives way to one.

    Raises:
        DataError: it is unknown, absent, torn, out of reach, or does not fit the options.
    """
    name = str(options.name)
    if options.given is not None:
        return options.given
    if name in TABLES:
        refuse_keys(options, f"the table {name}")
        dataset = TABLES[name](options, **options.options)
    elif options.path is not None:
        dataset = load_folder(options)
    elif name in BUILTINS:
        refuse_keys(options, f"the built-in {name}")
        dataset = BUILTINS[name](**options.options)
    elif "/" in name:
        dataset = load_hub(options)
    else:
        guess = f'Did you mean "{nearest(name, BUILTINS)}"?'
        raise DataError(
            f"data.name: got {shown(name)}, expected one of {', '.join(BUILTINS)}, or a hub data "
            "set as owner/name. "
            + (f"For the file give data.path={name}." if Path(name).exists() else guess)
        )
    _check_scaling(options, dataset)
    if options.samples_per_class is not None:
        dataset = subset(dataset, options.samples_per_class)
    return dataset


def _check_scaling(options: Data, dataset: Dataset) -> None:
    channels = dataset.input_shape[-1]
    for key in ("mean", "std"):
        count = np.size(getattr(options, key))
        if count not in (1, channels):
            raise DataError(
                f"data.{key}: got {count} values, expected 1 or one for each of the "
                f"{channels} channels of {dataset.name}."
            )
