"""An upper bound of one large matrix's norm: a value found by Lanczos steps, then proved.

Gram iteration takes about ten products of the whole matrix, and their derivatives. Here the
largest singular value is estimated from below, and that nothing lies above it by much is read
off a Cholesky factorisation of b^2 I - A A^T, which exists where b is above the norm (Rump 2006,
Verification of Positive Definiteness). Where it fails Gram iteration answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from .._lanczos import beside
from ._gram_iteration import EXCESS, spectral_bound

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_FEW = 256  # rows, up to which Gram iteration is as fast
_STEPS = 96


def matrix_bound(matrix: Float[Array, "m n"]) -> Float[Array, ""]:
    """An upper bound of a matrix's largest singular value, within 1 %, with its derivative.

    Of a large one the derivative is that of the singular value, at the leading Ritz vector.
    """
    if min(matrix.shape) <= _FEW:
        return spectral_bound(matrix)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    largest = jnp.max(jnp.abs(matrix))
    matrix = matrix / jnp.where(largest == 0, 1, largest)
    frozen = jax.lax.stop_gradient(matrix)
    gram = jnp.matmul(frozen, frozen.T, precision="highest")
    vector = _leading(gram)
    image = vector @ matrix
    squared = jnp.sum(jnp.square(image))
    value = jnp.sqrt(jnp.where(squared == 0, 1, squared))
    below = jax.lax.stop_gradient(value)
    ratio = jax.lax.cond(
        jnp.isfinite(below), lambda: _proved(frozen, gram, below) / below, lambda: jnp.nan
    )
    return jnp.where(squared == 0, 0, value * ratio * largest)


def _proved(matrix: Array, gram: Array, below: Array) -> Array:
    """A bound a little above `below` where that is one, else that of Gram iteration."""
    rows, columns = matrix.shape
    above = jnp.square(below) * (1 + EXCESS)
    shifted = jnp.where(diagonal(rows), above - gram, -gram)
    factor = jnp.linalg.cholesky(shifted, symmetrize_input=False)
    # Rounding of the factorisation and of the Gram matrix, both relative to the trace.
    rounding = 8 * (rows + columns) * float(jnp.finfo(gram.dtype).eps)
    rounding = rounding * (jnp.sum(jnp.where(diagonal(rows), gram, 0)) + rows * above)
    return jax.lax.cond(
        jnp.all(jnp.isfinite(factor)),
        lambda: jnp.sqrt(above + rounding),
        lambda: spectral_bound(matrix),
    )


def diagonal(size: int) -> Array:
    """Where a square matrix has its diagonal."""
    places = jax.lax.iota(jnp.int32, size)
    return places[:, None] == places[None]


def _leading(gram: Float[Array, "m m"]) -> Float[Array, " m"]:
    """The leading Ritz vector after Lanczos steps from one fixed vector."""
    size = gram.shape[0]
    start = np.random.default_rng(0).standard_normal(size)
    basis = jnp.zeros((_STEPS, size), gram.dtype).at[0].set(start / np.linalg.norm(start))

    def step(basis: Array, index: Array) -> tuple[Array, None]:
        return basis.at[index + 1].set(beside(basis, gram @ basis[index])), None

    basis, _ = jax.lax.scan(step, basis, jnp.arange(_STEPS - 1, dtype=jnp.int32))
    vectors = jnp.linalg.eigh(basis @ gram @ basis.T)[1]
    vector = vectors[:, -1] @ basis
    length = jnp.sqrt(jnp.sum(jnp.square(vector)))
    return vector / jnp.where(length == 0, 1, length)
