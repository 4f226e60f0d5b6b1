"""Scales of the columns of a matrix or a convolution that bound its norm by 1.

For any W and positive q the matrix W T^(-1/2), T_i = sum_j |W^T W|_ij q_j / q_i, has norm at most
1: T - W^T W is similar to a matrix that is diagonally dominant (Prach and Lampert 2022,
arXiv:2208.03160, for q = 1; Araujo et al. 2023, arXiv:2303.03169). A convolution of a bounded image
is a part of the one of an unbounded image, whose scales go with the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# A larger T bounds as well: this keeps 1 / T finite, and the sums' rounding on the safe side.
_LEAST = 1e-6
_ROUNDING = 1e-6


def dense_sums(
    kernel: Float[Array, "out in"], weights: Float[Array, " in"] | None = None
) -> Float[Array, " in"]:
    """T of a matrix `[out, in]`, with q = `weights`."""
    product = jnp.abs(jnp.matmul(kernel.T, kernel, precision="highest"))
    return _safe(product if weights is None else product * (weights / weights[:, None]))


def convolution_sums(
    kernel: Float[Array, "*taps in out"], weights: Float[Array, " in"] | None = None
) -> Float[Array, " in"]:
    """T of the convolution by a kernel `[*taps, in, out]` of stride 1, one each input channel."""
    taps = kernel.shape[:-2]
    rank = len(taps)
    spatial = "XYZ"[:rank]
    images = jnp.moveaxis(kernel, -2, 0)  # input channels are examples, outputs are summed over
    # The correlation of the kernel with itself, [in, *offsets, in].
    found = jax.lax.conv_general_dilated(
        images,
        kernel,
        (1,) * rank,
        [(n - 1, n - 1) for n in taps],
        dimension_numbers=(f"N{spatial}C", f"{spatial}OI", f"N{spatial}C"),
        precision="highest",
    )
    product = jnp.sum(jnp.abs(found), axis=tuple(range(1, rank + 1)))
    return _safe(product if weights is None else product * (weights / weights[:, None]))


def _safe(product: Float[Array, "in in"]) -> Float[Array, " in"]:
    return (jnp.sum(product, axis=1) + _LEAST) * (1 + _ROUNDING)


def almost_orthogonal(
    kernel: Float[Array, "*taps in out"], strides: Sequence[int], groups: int
) -> tuple[Float[Array, "*taps in out"], Float[Array, "groups *strides in"]]:
    """A kernel whose convolution has norm at most 1, with these strides and groups, and the sums.

    With strides the pixels between two places of the kernel are channels of their own, each with
    its scale: tap t touches the t mod s-th of them.
    """
    *taps, into, _ = kernel.shape
    sums = stride_sums(kernel, strides, groups)
    periods = [-(-n // s) for n, s in zip(taps, strides, strict=True)]
    scale = jnp.moveaxis(jax.lax.rsqrt(sums), 0, -1)
    scale = jnp.tile(scale, (*periods, 1, 1))[tuple(slice(n) for n in taps)]
    scaled = (kernel.reshape((*taps, into, groups, -1)) * scale[..., None]).reshape(kernel.shape)
    return scaled, sums


def stride_sums(
    kernel: Float[Array, "*taps in out"],
    strides: Sequence[int],
    groups: int,
    weights: Float[Array, "groups *strides in"] | None = None,
) -> Float[Array, "groups *strides in"]:
    """T of the convolution by a kernel with strides and groups, with q = `weights`."""
    *taps, into, out = kernel.shape
    periods = [-(-n // s) for n, s in zip(taps, strides, strict=True)]
    rank = len(taps)
    spread = [(0, p * s - n) for n, p, s in zip(taps, periods, strides, strict=True)]
    padded = jnp.pad(kernel, [*spread, (0, 0), (0, 0)])
    pairs = [n for p, s in zip(periods, strides, strict=True) for n in (p, s)]
    padded = padded.reshape((*pairs, into, groups, out // groups))
    outer, inner = range(0, 2 * rank, 2), range(1, 2 * rank, 2)
    order = (2 * rank + 1, *outer, *inner, 2 * rank, 2 * rank + 2)
    phases = jnp.transpose(padded, order)
    phases = phases.reshape((groups, *periods, prod(strides) * into, out // groups))
    each = [None] * groups if weights is None else weights.reshape((groups, -1))
    sums = jnp.stack([convolution_sums(phases[i], each[i]) for i in range(groups)])
    return sums.reshape((groups, *strides, into))


def positive(raw: Float[Array, " in"]) -> Float[Array, " in"]:
    """q from any numbers: positive, and never so large or small that a quotient overflows."""
    return jnp.exp(10 * jnp.tanh(raw / 10))
