"""Sketches of a batch of matrices that leave one vector out at a time.

With Y = A W for k Gaussian vectors W and Y = Q R, the projector Q_i onto what the other vectors
span is Q (I - s_i s_i^T), s_i the i-th column of R^-T at length one (Epperly, Tropp, Webber 2024).
So what Q_i holds of a quantity comes from Q alone, and the i-th vector is a probe of the rest:
every product serves twice.

Sketches carry no derivative: what the i-th vector says is unbiased whatever Q_i is, so its
derivative at a fixed Q_i is an unbiased one, and it exists where Q R has none, at a lower rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._one_by_one import one_by_one
from ._sharding import match_sharding
from ._structure import BatchStructure, accumulate_dtype, error_of_mean

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from ._typing import PyTree

# Rounding errors of the largest product below which what is left of one counts as nothing.
_ROUNDINGS = 16.0


class Sketch(NamedTuple):
    """Gaussian vectors, and an orthonormal basis of a map's products with them.

    Attributes:
        vectors: W.
        scale: of the map; everything else is that of the map over it.
        basis: Q.
        left_out: the vectors s_i as columns.
        full_rank: whether the vectors span k directions.
    """

    vectors: Float[Array, "N n k"]
    scale: Float[Array, "N 1 1"]
    basis: Float[Array, "N n k"]
    left_out: Float[Array, "N k k"]
    full_rank: Bool[Array, " N"]

    @property
    def inside(self) -> Float[Array, "N k k"]:
        """Each vector within what the others span, in the basis, as columns."""
        return self.within_others(self.vectors)

    def within_others(self, columns: Float[Array, "N n k"]) -> Float[Array, "N k k"]:
        """The i-th column within what all vectors but the i-th span, in the basis."""
        w = matmul(jnp.swapaxes(self.basis, 1, 2), columns)
        return w - self.left_out * jnp.sum(w * self.left_out, axis=1)[:, None, :]

    def at_mean_length(self) -> Float[Array, "N k"]:
        """What each probe of the rest is multiplied with, for less variance (Epperly 2025).

        A vector's direction beyond what the others span is uniform; its length there is brought
        to what it is in the mean.
        """
        size, count = self.vectors.shape[1:]
        beyond = jnp.sum(self.vectors**2, axis=1) - jnp.sum(self.inside**2, axis=1)
        return (size - count + 1) / jnp.where(beyond > 0, beyond, 1)


def gaussian_vectors(
    like: PyTree, side: BatchStructure, count: int, key: Array
) -> Float[Array, "N n k"]:
    """`count` vectors an example, sharded as the batch `like` of this structure."""
    num_examples, wide = jax.tree.leaves(like)[0].shape[0], accumulate_dtype(side.dtype)
    keys = jax.random.split(key, num_examples)
    vectors = jax.vmap(lambda k: jax.random.normal(k, (count, side.size), wide))(keys)
    return jnp.swapaxes(match_sharding(vectors, side.flatten(like)), 1, 2)


def largest(images: Float[Array, "N m k"]) -> Float[Array, "N 1 1"]:
    """The largest entry of an example, 1 where there is none: what to divide by."""
    found = jax.lax.stop_gradient(jnp.max(jnp.abs(images), axis=(1, 2), keepdims=True))
    return jnp.where((found > 0) & jnp.isfinite(found), found, 1)


def sketch_of(vectors: Float[Array, "N n k"], images: Float[Array, "N n k"]) -> Sketch:
    """The sketch of a map from its products with the vectors."""
    count, wide, images = vectors.shape[2], vectors.dtype, jax.lax.stop_gradient(images)
    scale = largest(images)
    basis, factor = one_by_one(jnp.linalg.qr)(images / scale)
    sizes = jnp.abs(jnp.diagonal(factor, axis1=1, axis2=2))
    least = _ROUNDINGS * float(jnp.finfo(wide).eps)
    full_rank = jnp.min(sizes, axis=1) > least * jnp.max(sizes, axis=1)
    identity = match_sharding(jnp.broadcast_to(jnp.eye(count, dtype=wide), factor.shape), factor)
    safe = jnp.where(full_rank[:, None, None], factor, identity)
    inverse = one_by_one(_inverse_transposed)(safe, identity)
    length = jnp.sqrt(jnp.sum(inverse**2, axis=1, keepdims=True))
    return Sketch(vectors, scale, basis, inverse / length, full_rank)


def _inverse_transposed(factor: Float[Array, "N k k"], identity: Array) -> Float[Array, "N k k"]:
    return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, transpose_a=True)


def mean_and_error(
    estimates: Float[Array, "N k"], dtype: Any
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """The mean of the estimates that each vector gives, and its standard error."""
    error = error_of_mean(estimates.T, ddof=0)
    return jnp.mean(estimates, axis=1).astype(dtype), error.astype(dtype)


def matmul(left: Float[Array, "N a b"], right: Float[Array, "N b c"]) -> Float[Array, "N a c"]:
    """The product of an example's matrices, at full precision."""
    return jnp.matmul(left, right, precision="highest")
