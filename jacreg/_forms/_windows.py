"""Which entries see which through windows: convolutions, pooling, resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._form import Seen, everything, spread


def convolution(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Images see windows of their axes; what a kernel sees goes everywhere."""
    if which != 0:
        return everything(equation, which, seen)
    params = equation.params
    numbers = params["dimension_numbers"]
    image, kernel = (atom.aval.shape for atom in equation.invars)
    out = equation.outvars[0].aval.shape
    for number, axis in enumerate(numbers.lhs_spec[2:]):
        seen = _along(
            seen,
            axis,
            taps=kernel[numbers.rhs_spec[2 + number]],
            stride=params["window_strides"][number],
            padding=params["padding"][number],
            apart=params["lhs_dilation"][number],
            dilation=params["rhs_dilation"][number],
            sizes=(image[axis], out[numbers.out_spec[2 + number]]),
        )
    batch, feature = numbers.lhs_spec[:2]
    if params["batch_group_count"] > 1:
        seen = seen.any(axis=batch, keepdims=True)
    groups, channels = params["feature_group_count"], out[numbers.out_spec[1]]
    if groups == 1 or seen.shape[feature] == 1:
        seen = seen.any(axis=feature, keepdims=True)
    else:
        parts = np.split(seen, groups, feature)
        parts = [part.any(axis=feature, keepdims=True) for part in parts]
        seen = np.repeat(np.concatenate(parts, feature), channels // groups, feature)
    order = [0] * len(out)
    for source, target in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        order[target] = source
    return [seen.transpose((*order, seen.ndim - 1))]


def pooling(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Windows of every axis."""
    params = equation.params
    shape, out = equation.invars[which].aval.shape, equation.outvars[0].aval.shape
    apart = params.get("base_dilation") or (1,) * len(shape)
    dilation = params.get("window_dilation") or (1,) * len(shape)
    for axis, taps in enumerate(params["window_dimensions"]):
        seen = _along(
            seen,
            axis,
            taps=taps,
            stride=params["window_strides"][axis],
            padding=params["padding"][axis],
            apart=apart[axis],
            dilation=dilation[axis],
            sizes=(shape[axis], out[axis]),
        )
    return [seen]


def _along(
    seen: Seen,
    axis: int,
    *,
    taps: int,
    stride: int,
    padding: tuple[int, int],
    apart: int,
    dilation: int,
    sizes: tuple[int, int],
) -> Seen:
    """Output i sees entries (i stride + tap dilation - low) / apart, where these are whole."""
    plain = (taps, stride, tuple(padding), apart, dilation) == (1, 1, (0, 0), 1, 1)
    if plain:
        return seen
    if seen.shape[axis] == 1 and sizes[0] > 1:
        # Every entry sees the same: so does every window that reads one. Padding sees less.
        return seen
    seen = spread(seen, axis, sizes[0])
    out = np.zeros((*seen.shape[:axis], sizes[1], *seen.shape[axis + 1 :]), bool)
    before = (slice(None),) * axis
    for tap in range(taps):
        places = np.arange(sizes[1]) * stride + tap * dilation - padding[0]
        entry, rest = np.divmod(places, apart)
        real = (rest == 0) & (entry >= 0) & (entry < sizes[0])
        out[(*before, real)] |= seen[(*before, entry[real])]
    return out
