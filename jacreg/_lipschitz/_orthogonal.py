"""Matrices with orthonormal rows or columns, from any matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_LARGEST = 8.0  # root-mean-square column norm beyond which the solve would lose digits


def orthogonal(kernel: Float[Array, "in out"]) -> Float[Array, "in out"]:
    """The Cayley transform of a matrix: all its singular values are 1 (Trockman and Kolter 2021).

    With the taller side as [U; V], A = U - U^T + V^T V, B = (I + A)^-1: [(I - A) B; -2 V B].
    I + A has no singular value below 1, so any matrix will do, zero or constant ones too, and it
    is smooth. A large matrix is scaled down first; one step of Newton and Schulz takes out what
    rounding left.
    """
    if kernel.shape[0] < kernel.shape[1]:
        return orthogonal(kernel.T).T
    side = kernel.shape[1]
    most = _LARGEST * side**0.5
    length = jnp.sqrt(jnp.sum(jnp.square(kernel)) + jnp.finfo(kernel.dtype).tiny)
    kernel = kernel * (most / jnp.maximum(length, most))
    upper, lower = kernel[:side], kernel[side:]
    identity = jnp.eye(side, dtype=kernel.dtype)
    product = _matmul(lower.T, lower)
    skew = upper - upper.T + product
    right = jnp.linalg.inv(identity + skew)
    found = jnp.concatenate([_matmul(identity - skew, right), -2 * _matmul(lower, right)])
    return 1.5 * found - 0.5 * _matmul(found, _matmul(found.T, found))


def _matmul(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision="highest")
