"""Any csv file as a data set: inputs, and targets or labels by the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from train.data._csv import column_label, header, read_csv
from train.data._dataset import Dataset, Examples, map_targets, random_split, stratified_split
from train.data._points import Seed
from train.errors import DataError, shown
from train.expect import Expect, either, integer, sequence, string

if TYPE_CHECKING:
    from train.sections import Data

TABLE_ENDS = (".csv", ".tsv", ".data")
_COLUMN = either(string(), integer(least=1))
_COLUMNS = Expect(
    "the name of a column, its number from 1, or a list of these",
    either(_COLUMN, sequence(_COLUMN)).check,
)
Columns = Annotated[Any, _COLUMNS]
_MOST_CLASSES = 10_000


def csv_table(
    options: Data,
    *,
    columns: Columns = None,
    target_columns: Columns = None,
    standardize: bool = False,
    seed: Seed = 0,
) -> Dataset:
    """Any table of numbers: data.path is a csv file, or a folder that holds one.

    Inputs are `float32[N, D]`: `columns`, or all that are no targets. Targets are
    `float32[N, K]` of `target_columns`, or class labels of `data.label_column` (whole
    numbers), or none. Columns go by name or by number from 1. A folder with `train.csv` and
    `test.csv` is split already; else `data.test_fraction` is held out by `seed`, stratified
    where there are labels. `standardize` brings the inputs to mean 0 and variance 1 over
    the training rows.

    Raises:
        DataError: the file is absent or wrong (see `read_csv`), or the columns do not fit.
    """
    paths = _find(options)
    names = header(paths[0])
    roles = _roles(names, paths[0], options, columns, target_columns)
    for path in paths[1:]:
        _check_header(path, names, paths[0])
    tables = [read_csv(path, roles.kept).values for path in paths]
    inputs, targets, labels = np.split(
        np.concatenate(tables), np.cumsum([len(roles.inputs), len(roles.targets)]), axis=1
    )
    classes: tuple[str, ...] = ()
    if roles.labels:
        targets, classes = _encode(labels[:, 0], f"{paths[0]}, column {options.label_column}")
    whole = Examples(inputs, targets if roles.labels or roles.targets else None)
    if len(whole) < 2:
        raise DataError(f"{paths[0]}: has 1 row, expected at least 2, for training and for test.")
    if len(tables) == 2:
        first, second = np.split(np.arange(len(whole)), [len(tables[0])])
        train, test = whole.take(first), whole.take(second)
    elif classes:
        train, test = stratified_split(whole, options.test_fraction, seed)
        if not len(test):
            raise DataError(
                f"data.test_fraction: got {options.test_fraction:g}, but every class of "
                f"{paths[0]} has too few rows to hold any out."
            )
    else:
        train, test = random_split(whole, options.test_fraction, seed)
    if standardize:
        train, test = _standardized(train, test, paths[0], [names[i] for i in roles.inputs])
    return Dataset(str(paths[0]), _float32(train, paths[0]), _float32(test, paths[0]), classes)


def tables_in(folder: Path) -> list[Path]:
    """Return the files of a folder that are tables by their name, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in TABLE_ENDS and path.is_file()
    )


def _find(options: Data) -> list[Path]:
    """Return the one file, or the files of the training and of the test split."""
    if options.path is None:
        raise DataError(
            'data.path is missing: data.name="csv" reads a table of numbers; give '
            'data.path="FILE.csv", or a folder that holds one.'
        )
    path = Path(options.path)
    if not path.is_dir():
        return [path]
    found = tables_in(path)
    splits = [path / "train.csv", path / "test.csv"]
    if all(split in found for split in splits):
        return splits
    if len(found) != 1:
        listed = ", ".join(table.name for table in found[:10]) or "none"
        raise DataError(
            f"data.path: {path} holds {len(found)} tables ({listed}), expected one "
            "*.csv, *.tsv or *.data, or train.csv and test.csv; give the path of one file."
        )
    return found


class _Roles(NamedTuple):
    """Positions of the columns, from 0."""

    inputs: list[int]
    targets: list[int]
    labels: list[int]

    @property
    def kept(self) -> list[int]:
        return [*self.inputs, *self.targets, *self.labels]


def _roles(
    names: Sequence[str], path: Path, options: Data, columns: Any, target_columns: Any
) -> _Roles:
    label = options.label_column
    if label is not None and target_columns is not None:
        raise DataError(
            "data.target_columns: got numbers to predict beside the classes of "
            "data.label_column; expected one of them."
        )
    targets = _column_numbers(names, _as_list(target_columns), path, "data.target_columns")
    labels = _column_numbers(names, _as_list(label), path, "data.label_column")
    if columns is None:
        inputs = [column for column in range(len(names)) if column not in targets + labels]
    else:
        inputs = _column_numbers(names, _as_list(columns), path, "data.columns")
        for column in inputs:
            if column in targets + labels:
                raise DataError(
                    f"data.columns: column {column_label(names, column)} of {path} is a target "
                    "too; expected it in one place."
                )
    if not inputs:
        raise DataError(f"data.columns: no column of {path} is left as an input.")
    return _Roles(inputs, targets, labels)


def _column_numbers(
    names: Sequence[str], wanted: Sequence[str | int], path: Path, key: str
) -> list[int]:
    """Return the positions, from 0, of columns given by name or by number from 1.

    Raises:
        DataError: a column is unknown, its name ambiguous, or it is given twice.
    """
    positions = []
    for column in wanted:
        if isinstance(column, int):
            found = [column - 1] if 1 <= column <= len(names) else []
        else:
            found = [position for position, name in enumerate(names) if name == column]
        if len(found) != 1:
            problem = "several columns of that name" if found else "no such column"
            raise DataError(
                f"{key}: got {shown(column)}, but {path} has {problem}; expected a name or a "
                f"number from 1 to {len(names)} of its columns {_listed(names)}."
            )
        if found[0] in positions:
            raise DataError(f"{key}: column {shown(column)} of {path} is given twice.")
        positions += found
    return positions


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 500 else text[:496] + " ..."


def _as_list(columns: Any) -> list[str | int]:
    if columns is None:
        return []
    return list(columns) if isinstance(columns, list | tuple) else [columns]


def _check_header(path: Path, names: tuple[str, ...], first: Path) -> None:
    found = header(path)
    if found != names:
        raise DataError(
            f"{path}: has the columns {shown(found, 300)}, expected those of {first}: "
            f"{shown(names, 300)}."
        )


def _encode(labels: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return numbers from 0 and the class names of labels that are whole numbers."""
    classes, encoded = np.unique(labels, return_inverse=True)
    if np.any(classes != np.round(classes)) or len(classes) > _MOST_CLASSES:
        odd = next((value for value in classes if value != round(value)), len(classes))
        raise DataError(
            f"{where}: got {odd:g}{'' if odd != len(classes) else ' classes'}, expected whole "
            f"numbers of at most {_MOST_CLASSES} classes; for numbers to predict give "
            "data.target_columns."
        )
    return encoded.astype(np.int32), tuple(str(int(value)) for value in classes)


def _standardized(
    train: Examples, test: Examples, path: Path, names: Sequence[str]
) -> tuple[Examples, Examples]:
    mean, std = train.inputs.mean(0), train.inputs.std(0)
    if np.any(std == 0):
        raise DataError(
            f"{path}: column {names[int(np.argmin(std))][:60]} is constant, so data.standardize "
            "cannot scale it; leave it out of data.columns."
        )
    return (
        replace(train, inputs=(train.inputs - mean) / std),
        replace(test, inputs=(test.inputs - mean) / std),
    )


def _float32(examples: Examples, path: Path) -> Examples:
    """Cast all but labels, which are integers."""

    def cast(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array
        with np.errstate(over="ignore"):
            small = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(small).all():
            raise DataError(
                f"{path}: holds {np.abs(array).max():g}, expected numbers below 3e38 (float32); "
                "scale the column, or set data.standardize=true."
            )
        return small

    return Examples(cast(examples.inputs), map_targets(cast, examples.targets))
