"""A convolution with strides as one without, of an image whose pixels were regrouped.

The derivative of a strided convolution by its image is a convolution of an image spread out with
zeros, which XLA's CPU backend multiplies by: eight times as slow as the same without strides. So
the s x s pixels between two positions of the kernel become channels (space to depth), and the
kernel's taps go with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def has_strides(equation: Any) -> bool:
    """Whether a convolution has strides, and nothing that goes badly with regrouping."""
    params = equation.params
    if params["batch_group_count"] != 1:
        return False
    axes = zip(
        params["window_strides"], params["lhs_dilation"], params["rhs_dilation"], strict=True
    )
    dilated = [(stride, max(spread, apart) > 1) for stride, spread, apart in axes]
    return any(stride > 1 for stride, _ in dilated) and not any(more for _, more in dilated)


def convolve_regrouped(
    equation: Any, image: Float[Array, "..."], kernel: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return what the equation, a convolution that `has_strides`, gives."""
    params = equation.params
    numbers = params["dimension_numbers"]
    (batch, feature, *spatial), (out, into, *taps) = numbers.lhs_spec, numbers.rhs_spec
    image = jnp.transpose(image, (batch, *spatial, feature))
    kernel = jnp.transpose(kernel, (*taps, into, out))
    rank, groups = len(spatial), params["feature_group_count"]
    sides = [equation.outvars[0].aval.shape[axis] for axis in numbers.out_spec[2:]]
    strides = params["window_strides"]
    # Taps of one pixel group, and groups that a kernel spans.
    within = [min(s, k) for s, k in zip(strides, kernel.shape, strict=False)]
    spans = [-(-k // w) for k, w in zip(kernel.shape, within, strict=False)]
    low = [edges[0] for edges in params["padding"]]
    whole = [(n - 1 + span) * s for n, span, s in zip(sides, spans, strides, strict=True)]
    high = [w - e - n for w, e, n in zip(whole, low, image.shape[1:-1], strict=True)]
    edges = [(0, 0, 0), *((a, b, 0) for a, b in zip(low, high, strict=True)), (0, 0, 0)]
    image = jax.lax.pad(image, jnp.zeros((), image.dtype), edges)
    image = _image_groups(image, strides, within, groups)
    more = [(0, s * w - k) for s, w, k in zip(spans, within, kernel.shape, strict=False)]
    kernel = _kernel_groups(jnp.pad(kernel, [*more, (0, 0), (0, 0)]), within)
    layout = (0, rank + 1, *range(1, rank + 1))
    found = jax.lax.conv_general_dilated(
        image,
        kernel,
        (1,) * rank,
        [(0, 0)] * rank,
        dimension_numbers=jax.lax.ConvDimensionNumbers(
            layout, (rank + 1, rank, *range(rank)), layout
        ),
        feature_group_count=groups,
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    order = [0] * (rank + 2)
    for place, axis in enumerate(numbers.out_spec):
        order[axis] = layout[place]
    return jnp.transpose(found, order)


def _image_groups(
    image: Float[Array, "..."], strides: Sequence[int], within: Sequence[int], groups: int
) -> Float[Array, "..."]:
    """`[B, *sides, C]` as `[B, *(sides / strides), groups * taps * C / groups]`."""
    batch, *sides, channels = image.shape
    rank = len(sides)
    pairs = [n for side, s in zip(sides, strides, strict=True) for n in (side // s, s)]
    image = image.reshape((batch, *pairs, groups, channels // groups))
    # What no tap of the kernel sees between two of its positions.
    for axis, taps in enumerate(within):
        image = jax.lax.slice_in_dim(image, 0, taps, axis=2 + 2 * axis)
    outer, inner = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    image = jnp.transpose(image, (0, *outer, 2 * rank + 1, *inner, 2 * rank + 2))
    return image.reshape((*image.shape[: rank + 1], -1))


def _kernel_groups(kernel: Float[Array, "..."], within: Sequence[int]) -> Float[Array, "..."]:
    """`[*taps, C, D]` as `[*(taps / within), within * C, D]`."""
    *taps, into, out = kernel.shape
    rank = len(taps)
    pairs = [n for side, w in zip(taps, within, strict=True) for n in (side // w, w)]
    kernel = kernel.reshape((*pairs, into, out))
    outer, inner = range(0, 2 * rank, 2), range(1, 2 * rank, 2)
    kernel = jnp.transpose(kernel, (*outer, *inner, 2 * rank, 2 * rank + 1))
    return kernel.reshape((*kernel.shape[:rank], -1, out))
