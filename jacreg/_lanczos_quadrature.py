"""Log pseudo-determinant by stochastic Lanczos quadrature, where no dense Jacobian fits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._linearize import Linearization
from ._methods import Lanczos, require_key
from ._probes import draw, mean_over_probes
from ._sharding import match_sharding
from ._structure import accumulate_dtype, norm, rank_tolerance, unit

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


def lanczos_quadrature(lin: Linearization, method: Lanczos, key: Any) -> Float[Array, " N"]:
    """1/2 tr log(A^T A), with A = J^T where J is wide or square and A = J where it is tall.

    Raises:
        ValueError: there is no key.
        DirectionError: the function lacks a direction; both are needed.
    """
    key = require_key("log_pseudo_determinant", method, key)
    flat = FlatJacobian(lin)
    flat.check_both_directions()
    wide_jacobian = flat.outputs.size <= flat.inputs.size
    if min(flat.outputs.size, flat.inputs.size) == 0:
        return jnp.zeros(flat.num_examples, flat.outputs.dtype)

    def sample(probe_key: Array) -> Float[Array, " N"]:
        probe = draw(probe_key, lin.value if wide_jacobian else lin.xs, method.distribution)
        return quadrature(lin, probe, method.order, wide_jacobian)

    return mean_over_probes(sample, key, method.num_probes)


def quadrature(
    lin: Linearization, probe: PyTree, order: int, wide_jacobian: bool
) -> Float[Array, " N"]:
    """The estimate from one probe, shaped as the outputs of a wide J or the inputs of a tall one.

    With V^T A^T A V = B^T B after `order` steps of Golub and Kahan's bidiagonalisation from
    v / |v|, the quadratic form v^T log(A^T A) v is about |v|^2 e_1^T log(B^T B) e_1. The gradient
    is that of 1/2 v^T A^T A w with w = (A^T A)^-1 v from the same steps, held fixed.
    """
    flat = FlatJacobian(jax.lax.stop_gradient(lin))
    multiply, transpose = (flat.vjp, flat.jvp) if wide_jacobian else (flat.jvp, flat.vjp)
    side, other = (flat.outputs, flat.inputs) if wide_jacobian else (flat.inputs, flat.outputs)
    wide = accumulate_dtype(side.dtype)
    vectors = side.flatten(probe).astype(wide)
    # Brought near one, so that no square of an entry underflows.
    scale = norm(multiply(vectors.astype(side.dtype)).astype(wide))
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)[:, None]
    bidiagonal, basis = _bidiagonalise(
        lambda v: multiply(v.astype(side.dtype)).astype(wide) / scale,
        lambda u: transpose(u.astype(other.dtype)).astype(wide) / scale,
        unit(vectors),
        other.flatten(lin.xs if wide_jacobian else lin.value).astype(wide),
        min(order, side.size),
    )
    tolerance = rank_tolerance(side.size, other.size, wide)
    value, solution = jax.vmap(partial(_logarithm_and_inverse, tolerance=tolerance))(
        bidiagonal, basis
    )
    length = norm(vectors)
    value, solution = length**2 * value, length[:, None] * solution
    value, solution = jax.lax.stop_gradient((value, solution))
    value = value + jnp.sum(vectors**2, axis=1) * jnp.log(scale[:, 0])
    traced = FlatJacobian(lin)
    product = traced.vjp if wide_jacobian else traced.jvp
    ends = [product(v.astype(side.dtype)).astype(wide) / scale for v in (vectors, solution)]
    slope = 0.5 * jnp.sum(ends[0] * ends[1], axis=1)
    slope = jnp.where(jnp.isfinite(value), slope, 0)
    return (value + slope - jax.lax.stop_gradient(slope)).astype(flat.outputs.dtype)


def _bidiagonalise(
    multiply: Callable[[Array], Array],
    transpose: Callable[[Array], Array],
    start: Float[Array, "N n"],
    like: Float[Array, "N m"],
    order: int,
) -> tuple[Float[Array, "N k k"], Float[Array, "N k n"]]:
    """B and V after so many steps from `start`, each new vector orthogonal to all before it.

    `like` is an image's shape and place.
    """

    def against(basis: Array, vector: Array) -> Array:
        for _ in range(2):  # once leaves what rounding brought back
            part = jnp.einsum("nkd,nd->nk", basis, vector, precision="highest")
            vector = vector - jnp.einsum("nk,nkd->nd", part, basis, precision="highest")
        return vector

    def step(index: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        right, left, diagonal, coupling, vector = carry
        right = jax.lax.dynamic_update_index_in_dim(right, vector, index, axis=1)
        image = against(left, multiply(vector))
        alpha = norm(image)
        image = unit(image)
        left = jax.lax.dynamic_update_index_in_dim(left, image, index, axis=1)
        following = against(right, transpose(image))
        beta = norm(following)
        diagonal = jax.lax.dynamic_update_index_in_dim(diagonal, alpha, index, axis=1)
        coupling = jax.lax.dynamic_update_index_in_dim(coupling, beta, index, axis=1)
        return right, left, diagonal, coupling, unit(following)

    # Built from the vectors, so that everything is where they are.
    rows = jnp.zeros((1, order, 1), start.dtype)
    column = jnp.zeros_like(start[:, :1]) + rows[:, :, 0]
    begin = (jnp.zeros_like(start)[:, None] + rows, jnp.zeros_like(like)[:, None] + rows)
    begin = tuple(match_sharding(each, start) for each in (*begin, column, column, start))
    right, _, diagonal, coupling, _ = jax.lax.fori_loop(0, order, step, begin)
    above = (jnp.arange(order)[:, None] == jnp.arange(order)[None, :] - 1).astype(start.dtype)
    same = jnp.eye(order, dtype=start.dtype)
    # Row i of B holds alpha_i and, to its right, beta_i.
    return diagonal[:, :, None] * same[None] + coupling[:, :, None] * above[None], right


def _logarithm_and_inverse(
    bidiagonal: Float[Array, "k k"], basis: Float[Array, "k n"], tolerance: float
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """1/2 e_1^T log(B^T B) e_1 and V (B^T B)^-1 e_1.

    Where the Krylov space of a probe ends before the last step, what follows in B and V is noise
    or nan: it is cut off, coupled to nothing. `tolerance` is relative to the largest entry.
    """
    diagonal, coupling = jnp.diagonal(bidiagonal), jnp.diagonal(bidiagonal, 1)
    largest = jnp.maximum(diagonal[0], jnp.max(jnp.nan_to_num(coupling), initial=0))
    ends = ~(coupling > tolerance * largest) | ~jnp.isfinite(diagonal[1:])
    used = jnp.concatenate([jnp.ones(1, bool), jnp.cumsum(ends) == 0])
    # The first entry, |A v|, lies between the least and the largest singular value: as padding
    # it makes no example look singular.
    padding = diagonal[0] * jnp.eye(len(diagonal), dtype=bidiagonal.dtype)
    kept = jnp.where(used[:, None] & used[None, :], bidiagonal, padding)
    _, values, vectors = jnp.linalg.svd(kept)
    weights = vectors[:, 0]
    singular = values[-1] <= tolerance * values[0]
    safe = jnp.where(values > 0, values, 1)
    logarithm = jnp.sum(weights**2 * jnp.log(safe))
    inverse = vectors.T @ (weights / safe**2)
    solution = jnp.where(used[:, None], basis, 0).T @ inverse
    return jnp.where(singular, -jnp.inf, logarithm), jnp.where(singular, 0, solution)
