"""Maximum and average pooling in any layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import lax

from ._layout import ConvLayout, transpose_axes
from ._window import PaddingLike, explicit_padding, per_dimension

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def max_pool(
    xs: Float[Array, "..."],
    window: int | Sequence[int],
    layout: ConvLayout | Sequence[str] | None = None,
    *,
    strides: int | Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
) -> Float[Array, "..."]:
    """The maximum of each window of the spatial axes. Padding never wins.

    Windows that tile the input are reshaped into axes of their own, about twice as fast on CPU
    as `lax.reduce_window`. There, equal maxima share the gradient, where `reduce_window` gives
    it to the first.

    Arguments:
      xs: the batch, axes as `layout.inputs`.
      window: one integer, or one for each of `layout.spatial_dims`.
      layout: a `ConvLayout`, or its three strings; NHWC, HWIO, NHWC where None.
      strides: as `window`; the window itself where None.
      padding: "SAME", "SAME_LOWER", "VALID", an integer, or a (low, high) pair a spatial axis.

    Returns: the pooled batch, axes as `layout.outputs`.

    Raises: TypeError for integer inputs, ValueError where the window does not fit.
    """
    xs = jnp.asarray(xs)
    layout, window, strides, pairs = _plan(xs, window, layout, strides, padding)
    tiles = _tiles(xs, window, strides, pairs, layout)
    if tiles is not None:
        pooled = jnp.max(*tiles)
    else:
        pooled = _reduce(xs, -jnp.inf, lax.max, window, strides, pairs, layout)
    return transpose_axes(pooled, layout.inputs, layout.outputs)


def average_pool(
    xs: Float[Array, "..."],
    window: int | Sequence[int],
    layout: ConvLayout | Sequence[str] | None = None,
    *,
    strides: int | Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
    count_padding: bool = False,
) -> Float[Array, "..."]:
    """The mean of each window of the spatial axes.

    Arguments: as `max_pool`, and
      count_padding: whether padded zeros count. Without it a window at the border is the mean
        of the elements that exist, so that a constant image stays constant.

    Returns: the pooled batch, axes as `layout.outputs`.

    Raises: TypeError for integer inputs, ValueError where the window does not fit, or where a
    window sees padding alone and the padding does not count.
    """
    xs = jnp.asarray(xs)
    layout, window, strides, pairs = _plan(xs, window, layout, strides, padding)
    tiles = _tiles(xs, window, strides, pairs, layout)
    if tiles is not None:
        pooled = jnp.mean(tiles[0], tiles[1])
    else:
        total = _reduce(xs, 0.0, lax.add, window, strides, pairs, layout)
        counts = np.full((1,) * xs.ndim, float(np.prod(window)))
        if not count_padding:
            counts = _counts(xs.shape, window, strides, pairs, layout)
        pooled = total / jnp.asarray(counts, total.dtype)
    return transpose_axes(pooled, layout.inputs, layout.outputs)


def global_average_pool(
    xs: Float[Array, "..."], layout: ConvLayout | Sequence[str] | None = None
) -> Float[Array, "N C"]:
    """The mean over all spatial axes of a batch in `layout.inputs`: `[N, C]`."""
    xs, layout = jnp.asarray(xs), ConvLayout.of(layout)
    _check(xs, layout)
    spatial = tuple(layout.inputs.index(letter) for letter in layout.spatial_dims)
    means = jnp.mean(xs, spatial)
    return means if layout.inputs.index("N") < layout.inputs.index("C") else means.T


def _check(xs, layout: ConvLayout) -> None:
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(
            f"Pooling needs floating-point xs, got {xs.dtype}: cast first, such as "
            "xs.astype(jnp.float32)."
        )
    if xs.ndim != len(layout.inputs):
        raise ValueError(
            f"xs must have the {len(layout.inputs)} axes {layout.inputs!r} of the layout, got "
            f"shape {xs.shape}."
        )


def _plan(xs, window, layout, strides, padding):
    layout = ConvLayout.of(layout)
    _check(xs, layout)
    dims = layout.spatial_dims
    window = per_dimension("window", window, dims)
    strides = window if strides is None else per_dimension("strides", strides, dims)
    sizes = [xs.shape[layout.inputs.index(letter)] for letter in dims]
    pairs = explicit_padding(padding, sizes, window, strides, dims)
    if any(end < 0 for pair in pairs for end in pair):
        raise ValueError(f"Padding of a pool may not be negative, got {pairs}: slice xs instead.")
    return layout, window, strides, pairs


def _tiles(xs, window, strides, pairs, layout: ConvLayout):
    """The inputs with each window on axes of its own, and those axes; None if not tiled."""
    sizes = [xs.shape[layout.inputs.index(letter)] for letter in layout.spatial_dims]
    fits = all(size % width == 0 for size, width in zip(sizes, window, strict=True))
    if window != strides or any(map(any, pairs)) or not fits:
        return None
    widths = dict(zip(layout.spatial_dims, window, strict=True))
    shape, axes = [], []
    for letter, size in zip(layout.inputs, xs.shape, strict=True):
        if letter in widths:
            shape += [size // widths[letter], widths[letter]]
            axes.append(len(shape) - 1)
        else:
            shape.append(size)
    return xs.reshape(shape), tuple(axes)


def _reduce(xs, initial, operation, window, strides, pairs, layout: ConvLayout):
    def spread(values, default):
        named = dict(zip(layout.spatial_dims, values, strict=True))
        return tuple(named.get(letter, default) for letter in layout.inputs)

    return lax.reduce_window(
        xs,
        # Concrete even under jit: from a traced one lax cannot tell a derivable reduction.
        np.asarray(initial, xs.dtype)[()],
        operation,
        spread(window, 1),
        spread(strides, 1),
        spread(pairs, (0, 0)),
    )


def _counts(shape, window, strides, pairs, layout: ConvLayout) -> np.ndarray:
    counts = np.ones((1,) * len(shape))
    plan = zip(layout.spatial_dims, window, strides, pairs, strict=True)
    for letter, width, stride, (low, high) in plan:
        axis = layout.inputs.index(letter)
        starts = np.arange(0, shape[axis] + low + high - width + 1, stride) - low
        inside = np.minimum(starts + width, shape[axis]) - np.maximum(starts, 0)
        if inside.min() < 1:
            raise ValueError(
                f"A window of {width} along {letter} sees padding alone (padding {low}, {high}), "
                "so its mean is undefined. Pad less, or set count_padding=True."
            )
        counts = counts * inside.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return counts
