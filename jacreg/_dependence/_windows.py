"""Which entries of an axis a window, a slice or a shift reads, as boolean matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ._boolean import Boolean, eye, kron, ones


@lru_cache(maxsize=512)
def window(
    out_size: int,
    in_size: int,
    *,
    taps: int,
    stride: int,
    low: int,
    input_dilation: int = 1,
    tap_dilation: int = 1,
) -> Boolean:
    """Row i has the entries that tap 0 .. taps - 1 of a window at output i reads.

    Positions are counted in the dilated input: entry k lies at k * input_dilation,
    `low` entries of padding before it.
    """
    out, tap = np.meshgrid(np.arange(out_size), np.arange(taps), indexing="ij")
    position = out * stride + tap * tap_dilation - low
    entry, remainder = np.divmod(position, input_dilation)
    real = (remainder == 0) & (entry >= 0) & (entry < in_size)
    return Boolean.of_entries(out[real], entry[real], (out_size, in_size))


def selection(index: Any, in_size: int) -> Boolean:
    """Row i has entry index[i]; a negative or too large index means none."""
    index = np.asarray(index)
    real = (index >= 0) & (index < in_size)
    return Boolean.of_entries(np.flatnonzero(real), index[real], (index.size, in_size))


def placement(index: Any, out_size: int) -> Boolean:
    """Row index[i] has entry i: what `selection` takes out, put back."""
    return selection(index, out_size).T


def triangle(size: int, *, reverse: bool) -> Boolean:
    """Cumulative sums: row i has the entries up to i, or from i on."""
    full = np.ones((size, size), dtype=bool)
    return Boolean.of_array(np.triu(full) if reverse else np.tril(full))


def blocks(out_size: int, in_size: int, groups: int) -> Boolean:
    """Grouped channels: output channels of a group read the input channels of that group."""
    return kron(eye(groups), ones(out_size // groups, in_size // groups))
