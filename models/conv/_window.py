"""Strides, dilations, windows and padding, checked and written out one a spatial axis."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from jax import lax

PaddingLike = str | int | Sequence[int | Sequence[int]]
_NAMED_PADDING = ("SAME", "SAME_LOWER", "VALID")


def per_dimension(name: str, value: int | Sequence[int], spatial_dims: str) -> tuple[int, ...]:
    """One positive integer for each spatial letter, from one for all or from a sequence.

    Raises: TypeError where a value is no integer; ValueError where one is below 1 or where
    there is another number of them than of spatial letters.
    """
    count = len(spatial_dims)
    if not isinstance(value, Sequence):
        return (positive(name, value),) * count
    if len(value) != count:
        raise ValueError(
            f"{name} has {len(value)} numbers, {tuple(value)}, for the {count} spatial axes "
            f"{spatial_dims!r}: give one number for all, or one for each in this order."
        )
    return tuple(positive(name, each) for each in value)


def positive(name: str, value: int) -> int:
    """The value as a Python integer of at least 1.

    Raises: TypeError where it is no integer, ValueError where it is below 1.
    """
    integer = _integer(name, value)
    if integer < 1:
        raise ValueError(f"{name} must be at least 1, got {integer}.")
    if integer >= 2**31:
        raise ValueError(f"{name} must be below 2^31, got {integer}.")
    return integer


def explicit_padding(
    padding: PaddingLike,
    sizes: Sequence[int],
    windows: Sequence[int],
    strides: Sequence[int],
    spatial_dims: str,
) -> tuple[tuple[int, int], ...]:
    """Padding as (low, high) for each spatial axis.

    Arguments:
      padding: "SAME" (output size = input size / stride, rounded up; an odd pixel of padding
        goes to the high end), "SAME_LOWER" (to the low end), "VALID" (none), one integer for
        both ends of every axis, a sequence of integers (one an axis) or of (low, high) pairs.
        Pairs may be negative, which crops.
      sizes: the sizes to pad, after any input dilation.
      windows: the extents of the window, after any kernel dilation.
      strides: one an axis.
      spatial_dims: the spatial letters, for messages.

    Raises: ValueError for an unknown name or another number of entries than of spatial axes,
    TypeError for anything that is no padding, ValueError where a window does not fit.
    """
    pairs = _pairs(padding, sizes, windows, strides, spatial_dims)
    for letter, size, window, pair in zip(spatial_dims, sizes, windows, pairs, strict=True):
        if size + sum(pair) < window:
            raise ValueError(
                f"The window spans {window} along {letter}, more than the padded input: "
                f"{size} + {pair[0]} + {pair[1]}. Use a larger input, more padding or a smaller "
                "window or dilation."
            )
    return pairs


def _pairs(padding, sizes, windows, strides, spatial_dims) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding.upper() not in _NAMED_PADDING:
            raise ValueError(
                f"Unknown padding {padding!r}: use one of {', '.join(_NAMED_PADDING)}, an "
                "integer, or one (low, high) pair for each spatial axis."
            )
        pads = lax.padtype_to_pads(sizes, windows, strides, padding.upper())
        return tuple((int(low), int(high)) for low, high in pads)
    if not isinstance(padding, Sequence):
        both = _integer("padding", padding)
        return ((both, both),) * len(spatial_dims)
    if len(padding) != len(spatial_dims):
        raise ValueError(
            f"padding has {len(padding)} entries, {tuple(padding)}, for the {len(spatial_dims)} "
            f"spatial axes {spatial_dims!r}: give one (low, high) pair for each."
        )
    return tuple(_pair(entry) for entry in padding)


def _pair(entry: int | Sequence[int]) -> tuple[int, int]:
    if not isinstance(entry, Sequence):
        both = _integer("padding", entry)
        return both, both
    if isinstance(entry, str) or len(entry) != 2:
        raise ValueError(f"An entry of padding is an integer or a (low, high) pair, got {entry!r}.")
    return _integer("padding", entry[0]), _integer("padding", entry[1])


def _integer(name: str, value) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, or one a spatial axis, got {value!r}."
        ) from None
