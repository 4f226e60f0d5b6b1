"""Linear systems of many rows at once, each by its own Krylov space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from .._sharding import match_varying

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


class _Krylov(NamedTuple):
    step: Int[Array, ""]
    basis: Float[Array, "N rows n"]
    triangle: Float[Array, "N m m"]
    right: Float[Array, "N rows"]
    cosines: Float[Array, "N m"]
    sines: Float[Array, "N m"]
    active: Bool[Array, " N"]


def gmres(
    product: Callable[[Float[Array, "N n"]], Float[Array, "N n"]],
    right: Float[Array, "N n"],
    *,
    tolerance: float,
    num_steps: int,
) -> Float[Array, "N n"]:
    """Solve A_n x_n = b_n for every row: the x of least residual in the row's Krylov space.

    A row ends when norm(A x - b) <= tolerance * norm(b), or hands over what it has after
    `num_steps` products; rows of zeros take none. Never raises. A row whose products are not
    finite ends where it is.

    Source: Saad and Schultz 1986, GMRES without restarts, with Givens rotations.
    """
    size = right.shape[1]
    steps = min(num_steps, size)
    norms = jnp.linalg.norm(right, axis=1)
    dtype = right.dtype
    unit = right * _inverse(norms)[:, None]

    def unfinished(krylov: _Krylov) -> Bool[Array, ""]:
        return jnp.any(krylov.active) & (krylov.step < steps)

    def advance(krylov: _Krylov) -> _Krylov:
        step, basis = krylov.step, krylov.basis
        vector = product(basis[:, step])
        # Twice is enough for orthogonality to rounding.
        column, vector = _orthogonalised(basis, vector)
        again, vector = _orthogonalised(basis, vector)
        length = jnp.linalg.norm(vector, axis=1)
        column = (column + again).at[:, step + 1].set(length)

        def rotate(index: Array, column: Float[Array, "N rows"]) -> Float[Array, "N rows"]:
            upper, lower = column[:, index], column[:, index + 1]
            cosine, sine = krylov.cosines[:, index], krylov.sines[:, index]
            column = column.at[:, index].set(cosine * upper + sine * lower)
            return column.at[:, index + 1].set(cosine * lower - sine * upper)

        column = jax.lax.fori_loop(0, step, rotate, column)
        upper, lower = column[:, step], column[:, step + 1]
        pivot = jnp.hypot(upper, lower)
        cosine, sine = upper * _inverse(pivot), lower * _inverse(pivot)
        last = krylov.right[:, step]
        # An ended row gets a column of the identity and with it the coefficient 0.
        taken = krylov.active & jnp.isfinite(pivot) & (pivot > 0)
        identity = jnp.zeros(steps, dtype).at[step].set(1)
        done = column.at[:, step].set(pivot)[:, :steps]
        triangle = jnp.where(taken[:, None], done, identity[None])
        new_right = krylov.right.at[:, step].set(jnp.where(taken, cosine * last, 0))
        new_right = new_right.at[:, step + 1].set(jnp.where(taken, -sine * last, 0))
        follows = jnp.where(taken[:, None], vector * _inverse(length)[:, None], 0)
        return _Krylov(
            step + 1,
            basis.at[:, step + 1].set(follows),
            krylov.triangle.at[:, :, step].set(triangle),
            new_right,
            krylov.cosines.at[:, step].set(cosine),
            krylov.sines.at[:, step].set(sine),
            taken & (jnp.abs(new_right[:, step + 1]) > tolerance * norms),
        )

    # Made of the right-hand side, so that they are split over devices as it is.
    zeros = match_varying(jnp.zeros_like(norms)[:, None], norms)
    columns = jnp.arange(steps + 1) == 0
    first = _Krylov(
        jnp.int32(0),
        jnp.where(columns[None, :, None], unit[:, None, :], 0),
        zeros[:, :, None] + jnp.eye(steps, dtype=dtype)[None],
        jnp.where(columns[None], norms[:, None], 0),
        zeros + jnp.ones((1, steps), dtype),
        zeros + jnp.zeros((1, steps), dtype),
        jnp.isfinite(norms) & (norms > 0),
    )
    last = jax.lax.while_loop(unfinished, advance, first)
    # Beyond the last step of any row the entries are those of the identity and the start.
    taken = jnp.where(jnp.arange(steps) < last.step, last.right[:, :steps], 0)
    taken = jnp.where((norms > 0)[:, None], taken, 0)
    coefficients = jax.scipy.linalg.solve_triangular(last.triangle, taken[:, :, None])[:, :, 0]
    return jnp.einsum("nm,nmi->ni", coefficients, last.basis[:, :steps])


def _orthogonalised(
    basis: Float[Array, "N k n"], vector: Float[Array, "N n"]
) -> tuple[Float[Array, "N k"], Float[Array, "N n"]]:
    """Return the components of a vector in the basis, and what remains of it."""
    components = jnp.einsum("nki,ni->nk", basis, vector)
    return components, vector - jnp.einsum("nk,nki->ni", components, basis)


def _inverse(values: Float[Array, " N"]) -> Float[Array, " N"]:
    """1 / values, 0 where these are 0."""
    return jnp.where(values > 0, 1 / jnp.where(values > 0, values, 1), 0)
