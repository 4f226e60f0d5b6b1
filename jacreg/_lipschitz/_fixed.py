"""Bounds of layers by the numbers that their calls use, whether these fit the parameters or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from .._bounds._gram_iteration import spectral_bound
from ._almost_orthogonal import convolution_sums, dense_sums, stride_sums
from ._layers import Numbers
from ._layout import Convolution

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def orthogonal_bound(numbers: Numbers) -> Float[Array, ""]:
    """sqrt(1 + ||K^T K - I||), the smaller of the two products."""
    kernel = numbers["kernel"]
    tall = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
    product = jnp.matmul(tall.T, tall, precision="highest")
    return jnp.sqrt(1 + spectral_bound(product - jnp.eye(len(product), dtype=product.dtype)))


def aol_bound(numbers: Numbers, convolution: Convolution) -> Float[Array, ""]:
    """The root of the largest T_i that the kernel has with these weights.

    With the roots of the unscaled kernel's T as q each is 1.
    """
    sums = stride_sums(
        numbers["kernel"], convolution.strides, convolution.groups, numbers["weights"]
    )
    return jnp.sqrt(jnp.max(sums))


def sll_dense_bound(numbers: Numbers) -> Float[Array, ""]:
    """Of x - 2 W T^-1 relu(W^T x + b) with any T."""
    return _residual(dense_sums(numbers["kernel"], numbers["weights"]), numbers["sums"])


def sll_convolution_bound(numbers: Numbers) -> Float[Array, ""]:
    """The same with a convolution as W^T."""
    canonical = jnp.swapaxes(numbers["kernel"], -1, -2)
    return _residual(convolution_sums(canonical, numbers["weights"]), numbers["sums"])


def _residual(needed: Float[Array, " hidden"], used: Float[Array, " hidden"]) -> Float[Array, ""]:
    # The eigenvalues of I - 2 W D T^-1 W^T, D from 0 to 1, are at least 1 - 2 max(needed / used).
    ratio = jnp.where(used > 0, needed / used, jnp.inf)
    return jnp.maximum(1, 2 * jnp.max(ratio) - 1)
