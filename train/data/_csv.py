"""Numeric tables as text: separator and header found, every cell checked, nothing guessed."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from train.errors import DataError, shown

if TYPE_CHECKING:
    from jaxtyping import Float

SEPARATORS = ("\t", ";", ",")
_LARGEST = 2 * 2**30  # bytes
_LONGEST_LINE = 2**24  # characters
_BLOCK_CELLS = 2**18

_Row = tuple[int, list[str]]  # the number of its line, from 1, and its cells


@dataclass(frozen=True)
class Table:
    """The cells of a table of numbers.

    Attributes:
        path: where it came from, for messages.
        names: one a column; where the file has no header their numbers, "1", "2", ...
        values: all finite.
    """

    path: Path
    names: tuple[str, ...]
    values: Float[np.ndarray, "rows columns"]


def header(path: Path) -> tuple[str, ...]:
    """Return the names of the columns; their numbers "1", "2", ... where the file has no header.

    The first line is a header where none of its cells is a number.

    Raises:
        DataError: as `read_csv`.
    """
    with _rows_of(path) as rows:
        return _names(rows, path)[0]


def read_csv(path: Path, kept: Sequence[int] | None = None) -> Table:
    """Read a table of finite numbers, separated by tab, semicolon or comma.

    Blank lines are skipped, cells may stand in double quotes, the text is UTF-8.

    Args:
        kept: positions of the columns to keep, from 0; the others may hold anything.
            None for all.

    Raises:
        DataError: the file is absent, empty, larger than 2 GiB, no UTF-8 text or ragged, or a
            cell that is kept is no finite number; the message names file, line and column.
    """
    with _rows_of(path) as rows:
        return _parse(rows, path, kept)


@contextmanager
def _rows_of(path: Path) -> Iterator[Iterator[_Row]]:
    """Open a file as rows; whatever it raises while they are read is a `DataError`."""
    _check_size(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = _separator(_lines(file, path))
            file.seek(0)
            yield _rows(csv.reader(_lines(file, path), delimiter=separator, strict=True), path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text ({error.reason}); expected a table of numbers. "
            "Save it as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a csv file."
        ) from None
    if not path.is_file():
        raise DataError(f"{path}: is no file; expected a csv file.")
    if size > _LARGEST:
        raise DataError(
            f"{path}: holds {size / 2**30:.1f} GiB, expected at most {_LARGEST // 2**30} GiB of "
            "text, because data sets are held in memory. Give a part of it."
        )


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines; a file that is one endless line must not fill the memory."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise DataError(
                f"{path}, line {number}: is longer than {_LONGEST_LINE // 2**20} MiB; expected a "
                "table of numbers, one row a line."
            )
        yield line


def _separator(lines: Iterator[str]) -> str:
    """Return the separator that cuts the first lines into the same number of cells, above one."""
    first: list[str] = []
    for line in lines:
        if line.strip():
            first.append(line)
        if len(first) == 5:
            break
    for separator in SEPARATORS:
        try:
            counts = {len(cells) for cells in csv.reader(first, delimiter=separator) if cells}
        except csv.Error:
            continue
        if len(counts) == 1 and counts.pop() > 1:
            return separator
    # Ragged, or one column: the most frequent one lets the reader say which line is at fault.
    return max(SEPARATORS[::-1], key=lambda separator: sum(line.count(separator) for line in first))


def _names(rows: Iterator[_Row], path: Path) -> tuple[tuple[str, ...], Iterator[_Row]]:
    """Return the names of the columns and the rows below the header."""
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty; expected lines of numbers.")
    _, cells = first
    if all(_number(cell) is None for cell in cells):
        return tuple(cell.strip() for cell in cells), rows
    return tuple(str(number) for number in range(1, len(cells) + 1)), chain([first], rows)


def _parse(rows: Iterator[_Row], path: Path, kept: Sequence[int] | None) -> Table:
    names, rows = _names(rows, path)
    kept = range(len(names)) if kept is None else kept
    labels = [column_label(names, column) for column in kept]
    blocks, block = [], []
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(
                f"{path}, line {line}: has {len(cells)} columns, expected {len(names)} as in the "
                "first line."
            )
        block.append((line, [cells[column] for column in kept]))
        if len(block) * len(kept) >= _BLOCK_CELLS:
            blocks.append(_numbers(block, labels, path))
            block = []
    if block:
        blocks.append(_numbers(block, labels, path))
    if not blocks:
        raise DataError(f"{path}: has a header and no rows; expected lines of numbers.")
    return Table(path, tuple(names[column] for column in kept), np.concatenate(blocks))


def _rows(reader: Any, path: Path) -> Iterator[_Row]:
    """Yield the rows that are not blank with the number of their line, from 1."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}.") from None
        if cells and (len(cells) > 1 or cells[0].strip()):
            yield reader.line_num, cells


def column_label(names: Sequence[str], column: int) -> str:
    """Return how messages call a column: its number from 1, and its name where it has one."""
    number = str(column + 1)
    return number if names[column] == number else f"{number} ({names[column][:60]})"


def _numbers(
    block: list[_Row], labels: Sequence[str], path: Path
) -> Float[np.ndarray, "rows columns"]:
    shape = (len(block), len(labels))
    cells = chain.from_iterable(row for _, row in block)
    try:
        values = np.fromiter(map(_checked, cells), np.float64, math.prod(shape)).reshape(shape)
    except ValueError:
        values = np.full(shape, np.nan)
    if np.isfinite(values).all():
        return values
    for line, row in block:
        for cell, label in zip(row, labels, strict=True):
            value = _number(cell)
            if value is None or not math.isfinite(value):
                raise DataError(
                    f"{path}, line {line}, column {label}: got {shown(cell)}, expected a finite "
                    f"number.{_advice(cell, value)}"
                )
    raise AssertionError("unreachable: a block that does not parse has a cell that does not")


def _advice(cell: str, value: float | None) -> str:
    if value is not None or not cell.strip():
        return " Drop or fill rows with missing values first."
    if _number(cell.replace(",", ".", 1)) is not None:
        return " Write decimals with a point."
    return " Leave the column out: data.name=csv data.columns=[...]."


def _checked(cell: str) -> float:
    if "_" in cell:  # Python reads 1_000 as a number
        raise ValueError
    return float(cell)


def _number(cell: str) -> float | None:
    try:
        return _checked(cell)
    except ValueError:
        return None
