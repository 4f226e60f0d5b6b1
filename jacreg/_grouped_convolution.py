"""A convolution in groups by convolutions without, for a CPU.

XLA's CPU backend has no good kernel for groups: the product that has the kernel's shape took up to
a thousand times as long as that of the same convolution without groups, the other two several
times as long. Each group is a convolution of its own channels, so the groups are taken one by one.
Groups of one channel (depthwise) are sums over the taps of the kernel, each a product of two arrays
entry by entry. No group's channels ever meet another's, not even times zero: what is not finite
stays in its group.

What stands here is linear in both operands, and transposes to the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._canonical_convolution import from_canonical, to_canonical
from ._convolution_spec import met_by_taps
from ._structure import accumulate_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# More groups are taken in a loop, so that a program stays of bounded length; kernels of one channel
# with more taps are left to XLA.
_UNROLLED = 16
_MOST_TAPS = 64


def convolve_in_groups(
    images: Float[Array, "..."], kernel: Float[Array, "..."], params: Mapping[str, Any]
) -> Float[Array, "..."]:
    """Return what `conv_general_dilated` with these parameters gives."""
    groups, numbers = params["feature_group_count"], params["dimension_numbers"]
    into, out = images.shape[numbers.lhs_spec[1]], kernel.shape[numbers.rhs_spec[0]]
    plain = partial(jax.lax.conv_general_dilated_p.bind, **params)
    if groups == 1 or params["batch_group_count"] != 1:
        return plain(images, kernel)
    if 0 in jax.eval_shape(plain, images, kernel).shape:
        return plain(images, kernel)  # there is no place that a kernel fits into
    floating = all(jnp.issubdtype(each.dtype, jnp.floating) for each in (images, kernel))
    if groups == into and out <= groups**2 and floating:
        if prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:]) > _MOST_TAPS:
            return plain(images, kernel)
        return _by_taps(images, kernel, params)
    own = {**params, "feature_group_count": 1}
    axes = (numbers.lhs_spec[1], numbers.rhs_spec[0])
    if groups <= _UNROLLED:
        parts = zip(*map(lambda x, a: jnp.split(x, groups, a), (images, kernel), axes), strict=True)
        return jnp.concatenate(
            [jax.lax.conv_general_dilated_p.bind(*part, **own) for part in parts],
            numbers.out_spec[1],
        )
    parts = tuple(
        jnp.moveaxis(x.reshape((*x.shape[:a], groups, -1, *x.shape[a + 1 :])), a, 0)
        for x, a in zip((images, kernel), axes, strict=True)
    )
    found = jax.lax.map(lambda part: jax.lax.conv_general_dilated_p.bind(*part, **own), parts)
    found = jnp.moveaxis(found, 0, numbers.out_spec[1])
    return jax.lax.collapse(found, numbers.out_spec[1], numbers.out_spec[1] + 2)


def _by_taps(images: Array, kernel: Array, params: Mapping[str, Any]) -> Array:
    """Of groups of one channel: of each of a group's outputs, a sum over the taps."""
    numbers = params["dimension_numbers"]
    dtype = params["preferred_element_type"] or images.dtype
    wide = accumulate_dtype(dtype)
    images, kernel = to_canonical(images, kernel, numbers)
    kernel = kernel[..., 0, :]
    *sides, channels = kernel.shape
    kernel = kernel.astype(wide).reshape((*sides, images.shape[-1], -1))
    met, found = list(met_by_taps(images.astype(wide), sides, params)), []
    for one in jnp.split(kernel, kernel.shape[-1], -1):
        total = jnp.zeros((), wide)
        for tap, seen in met:
            weight = one[tap][:, 0].reshape((1,) * (seen.ndim - 1) + (-1,))
            total = total + seen * weight
        found.append(total)
    outs = jnp.stack(found, -1)
    outs = outs.reshape((*outs.shape[:-2], channels)).astype(dtype)
    return from_canonical(outs, numbers)
