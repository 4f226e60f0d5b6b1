"""Upper bounds of largest singular values by Gram iteration, with its rounding counted.

Delattre, Barthelemy, Araujo, Allauzen 2023 (arXiv:2305.16173): with X_0 = A and
X_{t+1} = X_t X_t^T, ||A||_2 = ||X_t||_2^(2^-t) <= ||X_t||_F^(2^-t), an upper bound at any t, smooth
in A, above the norm by at most rank^(2^-(t+1)).
"""

from __future__ import annotations

from math import ceil, log, log2
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

EXCESS = 0.003  # relative, of the iteration's last norm over the largest singular value


def num_steps(side: int) -> int:
    """Gram products after which the bound of a matrix of that smaller side is within `EXCESS`."""
    return max(0, ceil(log2(max(log(side), 1e-9) / log(1 + EXCESS))) - 1)


def spectral_bound(matrices: Array) -> Float[Array, "*batch"]:
    """An upper bound of the largest singular value of each matrix, `[*batch, m, n]`, real or not.

    It holds in exact arithmetic: with ||X||_F = 1 a computed Gram matrix is off by at most
    gamma_n = n u / (1 - n u) in the Frobenius norm, whatever the order of the sums, so that
    ||X||_2^2 <= ||fl(X X^T)||_2 + gamma; carried back from the last step to the first.
    """
    rows, columns = matrices.shape[-2:]
    if 0 in (rows, columns):
        return jnp.zeros(matrices.shape[:-2], jnp.finfo(matrices.dtype).dtype)
    if rows > columns:
        matrices = jnp.swapaxes(matrices, -1, -2).conj()
    # Complex products take up to four times the real error; the norm's own rounding is in it too.
    gamma = 8 * (max(rows, columns) + 8) * float(jnp.finfo(matrices.dtype).eps)
    largest = _positive(jnp.max(jnp.abs(matrices), axis=(-2, -1)))
    matrices = _over(matrices, largest)
    scales = []
    for step in range(num_steps(min(rows, columns)) + 1):
        scale = _frobenius(matrices)
        scales.append(scale)
        matrices = _over(matrices, _positive(scale))
        if step < num_steps(min(rows, columns)):
            matrices = jnp.matmul(
                matrices, jnp.swapaxes(matrices, -1, -2).conj(), precision="highest"
            )
    bound = jnp.ones_like(scales[-1])
    for index, scale in enumerate(reversed(scales)):
        # From the norm of X_t / ||X_t||_F to that of X_t, then to that of the one before it.
        bound = scale * bound * (1 + gamma)
        if index < len(scales) - 1:
            bound = jnp.sqrt(_positive(bound + gamma))
    return jnp.where(scales[0] == 0, 0, bound * largest)


def _frobenius(matrices: Array) -> Array:
    squared = jnp.sum(jnp.square(jnp.real(matrices)), axis=(-2, -1))
    if jnp.iscomplexobj(matrices):
        squared = squared + jnp.sum(jnp.square(jnp.imag(matrices)), axis=(-2, -1))
    zero = squared == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def _over(matrices: Array, scales: Array) -> Array:
    """Each matrix, real or complex, over a real number of its own."""
    return matrices / scales[..., None, None].astype(matrices.dtype)


def _positive(values: Any) -> Array:
    return jnp.where(values == 0, 1, values)
