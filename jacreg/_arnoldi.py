"""Dominant eigenvalue of a square Jacobian by Arnoldi with thick restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from ._one_by_one import one_by_one
from ._sharding import match_varying
from ._structure import norm

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Complex, Float, Int


class Krylov(NamedTuple):
    """A V = V H + beyond * v e_k^T + drift, with orthonormal V (zero rows for nothing).

    Attributes:
        basis: V, the first `filled` of k rows.
        projected: H.
        vector: v, the next direction.
        filled: how many rows of the basis are in use.
        drift: bound on what restarts have lost of the equation.
    """

    basis: Float[Array, "N k n"]
    projected: Float[Array, "N k k"]
    vector: Float[Array, "N n"]
    filled: Int[Array, ""]
    drift: Float[Array, " N"]


def dominant_modulus(
    product: Callable[[Array], Array],
    start: Float[Array, "N n"],
    *,
    steps: int,
    cycles: int,
    tolerance: float,
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """Largest modulus of an eigenvalue, and whether it is within the tolerance.

    Converged is judged by the residual of the dominant Ritz pair and the condition of
    its eigenvalue in the Krylov space, not by two estimates that agree. Half of the
    space, the Ritz vectors of largest modulus, survives a restart, so that a rival of
    almost the same modulus is not lost.

    Args:
        product: the Jacobian, `[N, n] -> [N, n]`, or its transpose.
        start: `[N, n]`, unit random vectors.
        steps: dimensions of the Krylov space, at most n.
        cycles: times to fill it.
        tolerance: relative.
    """
    zero = jnp.zeros_like(start[:, 0])
    begin = Krylov(
        basis=zero[:, None, None] + jnp.zeros((1, steps, start.shape[1]), start.dtype),
        projected=zero[:, None, None] + jnp.zeros((1, steps, steps), start.dtype),
        vector=start,
        filled=jnp.array(0),
        drift=zero,
    )
    begin = match_varying(begin, start)._replace(filled=begin.filled)

    def body(carry: tuple[Array, Krylov, Array, Array]) -> tuple[Array, Krylov, Array, Array]:
        cycle, space, radius, converged = carry
        space, beyond = _expand(product, space)
        finite = jnp.all(jnp.isfinite(space.projected), axis=(1, 2))
        projected = jnp.where(finite[:, None, None], space.projected, 0)
        normal, scale = normalized_matrices(projected)
        values, left, right = one_by_one(jax.lax.linalg.eig)(normal)
        values = values * scale[:, None].astype(values.dtype)
        order = jnp.argsort(-jnp.abs(values), axis=1, stable=True)
        modulus = jnp.where(finite, jnp.max(jnp.abs(values), axis=1), jnp.nan)
        dual, ritz = (_columns(vectors, order[:, :1])[:, :, 0] for vectors in (left, right))
        condition = 1 / jnp.abs(jnp.sum(jnp.conj(dual) * ritz, axis=1))
        rounding = jnp.finfo(start.dtype).eps * norm(projected.reshape(projected.shape[0], -1))
        residual = (beyond * jnp.abs(ritz[:, -1]) + space.drift + rounding) * condition
        done = (residual <= tolerance * modulus) | ~finite
        radius = jnp.where(converged, radius, modulus)
        following = _restart(space, beyond, jnp.take_along_axis(values, order, 1), right, order)
        return cycle + 1, following, radius, converged | done

    _, _, radius, converged = jax.lax.while_loop(
        lambda c: (c[0] < cycles) & ~jnp.all(c[3]),
        body,
        (jnp.array(0), begin, *match_varying((zero, zero.astype(bool)), start)),
    )
    return radius, converged


def normalized_matrices(
    matrices: Float[Array, "N n n"],
) -> tuple[Float[Array, "N n n"], Float[Array, " N"]]:
    """Each matrix over its largest entry, and that entry, one where all are zero.

    The LAPACK of some releases of SciPy, which JAX calls on a CPU, scales a matrix of very small or
    very large entries and does not scale its eigenvalues back.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(matrices), axis=(1, 2)))
    scale = jnp.where(largest > 0, largest, 1)
    return matrices / scale[:, None, None], scale


def _expand(product: Callable[[Array], Array], space: Krylov) -> tuple[Krylov, Float[Array, " N"]]:
    """Fill the basis by products, orthogonalised against all of it."""
    steps = space.basis.shape[1]
    eps = jnp.finfo(space.vector.dtype).eps

    def step(j: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, ...]:
        basis, projected, vector, _ = carry
        basis = jax.lax.dynamic_update_index_in_dim(basis, vector, j, axis=1)
        image = product(vector)
        before = norm(image)
        column = jnp.zeros_like(projected[:, :, 0])
        for _ in range(2):  # Gram-Schmidt loses orthogonality; twice is enough.
            part = jnp.einsum("nkd,nd->nk", basis, image, precision="highest")
            image = image - jnp.einsum("nk,nkd->nd", part, basis, precision="highest")
            column = column + part
        beyond = norm(image)
        # Rounding noise is no direction: the space is invariant and ends here.
        beyond = jnp.where(beyond > 8 * eps * before, beyond, 0)
        following = image / jnp.where(beyond > 0, beyond, 1)[:, None]
        following = jnp.where((beyond > 0)[:, None], following, 0)
        column = column + jnp.where((jnp.arange(steps) == j + 1)[None], beyond[:, None], 0)
        projected = jax.lax.dynamic_update_index_in_dim(projected, column, j, axis=2)
        return basis, projected, following, beyond

    nothing = match_varying(jnp.zeros_like(space.drift), space.drift)
    carry = (space.basis, space.projected, space.vector, nothing)
    basis, projected, vector, beyond = jax.lax.fori_loop(space.filled, steps, step, carry)
    return Krylov(basis, projected, vector, jnp.array(steps), space.drift), beyond


def _restart(
    space: Krylov,
    beyond: Float[Array, " N"],
    values: Complex[Array, "N k"],
    right: Complex[Array, "N k k"],
    order: Int[Array, "N k"],
) -> Krylov:
    """Keep the real span of the Ritz vectors of largest modulus, half of the space.

    The span is invariant under H, H Q = Q S, so the equation of the Krylov space holds
    with Q's columns as coordinates; what rounding makes of it goes to `drift`.
    """
    steps = space.projected.shape[1]
    kept = steps // 2
    values = values[:, :kept]
    vectors = _columns(right, order[:, :kept])
    # A conjugate pair spans the real and the imaginary part of either of its vectors;
    # eigenvalue routines return it side by side, and the sort is stable.
    spanning = jnp.where((values.imag < 0)[:, None, :], vectors.imag, vectors.real)
    q = one_by_one(jnp.linalg.qr)(spanning)[0]
    split = jnp.sum(values.imag > 0, axis=1) != jnp.sum(values.imag < 0, axis=1)
    last = (jnp.arange(kept) == kept - 1)[None]
    q = jnp.where((split[:, None] & last)[:, None, :], 0, q)
    image = jnp.einsum("nij,njk->nik", space.projected, q, precision="highest")
    small = jnp.einsum("nij,nik->njk", q, image, precision="highest")
    lost = image - jnp.einsum("nij,njk->nik", q, small, precision="highest")
    drift = space.drift + norm(lost.reshape(lost.shape[0], -1))
    coupling = beyond[:, None] * q[:, -1, :]
    top = jnp.concatenate([small, coupling[:, None, :]], axis=1)
    projected = jnp.pad(top, ((0, 0), (0, steps - kept - 1), (0, steps - kept)))
    basis = jnp.einsum("nik,nid->nkd", q, space.basis, precision="highest")
    basis = jnp.pad(basis, ((0, 0), (0, steps - kept), (0, 0)))
    return Krylov(basis, projected, space.vector, jnp.array(kept), drift)


def _columns(matrices: Array, index: Int[Array, "N c"]) -> Array:
    return jnp.take_along_axis(matrices, index[:, None, :], axis=2)
