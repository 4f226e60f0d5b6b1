"""Fixed points of many rows at once, each stopping by its own residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from .._sharding import match_sharding, match_varying

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

# Added to the diagonal of the normal equations, relative to their trace.
_RIDGE = 1e-6
# Of norm(f(z)): with it a cell at rest in 0 is at rest.
_SMALL = 1e-9


class Rest(NamedTuple):
    """Where the rows came to, and how."""

    points: Float[Array, "N n"]
    residual: Float[Array, " N"]
    num_evaluations: Int[Array, " N"]
    converged: Bool[Array, " N"]


class _Loop(NamedTuple):
    step: Int[Array, ""]
    points: Float[Array, "N n"]
    residual: Float[Array, " N"]
    num_evaluations: Int[Array, " N"]
    active: Bool[Array, " N"]
    past_points: Float[Array, "N m n"]
    past_images: Float[Array, "N m n"]


def fixed_points(
    cell: Callable[[Float[Array, "N n"]], Float[Array, "N n"]],
    start: Float[Array, "N n"],
    *,
    tolerance: float,
    max_steps: int,
    memory: int,
) -> Rest:
    """Each step mixes the last `memory` images f(z) so that their mixed residual is least.

    A row ends when norm(f(z) - z) <= tolerance * norm(f(z)), at f(z); it gives up at the last
    finite point where the cell is not finite, and after `max_steps`. With `memory` 1 it is the
    plain iteration. One evaluation a step for all rows; those that have ended stay as they are.

    Source: Anderson 1965; Walker and Ni 2011.
    """
    num_rows, size = start.shape
    dtype = start.dtype
    # Made of the start, so that they are split over devices as it is.
    rows = match_sharding(jnp.zeros(num_rows, dtype), start[:, 0])
    past = jnp.zeros_like(start)[:, None, :]
    past = jnp.broadcast_to(past, (num_rows, memory if memory > 1 else 0, size))
    past = match_varying(past, start)

    def unfinished(loop: _Loop) -> Bool[Array, ""]:
        return jnp.any(loop.active) & (loop.step < max_steps)

    def advance(loop: _Loop) -> _Loop:
        points = loop.points
        images = cell(points)
        size_of = jnp.linalg.norm(images, axis=1)
        residual = jnp.linalg.norm(images - points, axis=1) / (size_of + _SMALL)
        residual = jnp.where(jnp.isfinite(residual), residual, jnp.inf)
        past_points, past_images, mixed = loop.past_points, loop.past_images, images
        if memory > 1:
            slot = loop.step % memory
            past_points = past_points.at[:, slot].set(points)
            past_images = past_images.at[:, slot].set(images)
            used = (rows == 0)[:, None] & (jnp.arange(memory) <= loop.step)[None]
            weights = jax.vmap(_weights)(past_images - past_points, used)
            mixed = jnp.einsum("nm,nmi->ni", weights, past_images)
        reached = residual <= tolerance
        # At the end the image itself: it is closer than the point that was tested.
        new = jnp.where(reached[:, None], images, mixed)
        finite = jnp.isfinite(residual) & jnp.all(jnp.isfinite(new), axis=1)
        moved = loop.active & finite
        return _Loop(
            loop.step + 1,
            jnp.where(moved[:, None], new, points),
            jnp.where(loop.active, residual, loop.residual),
            loop.num_evaluations + loop.active,
            moved & ~reached,
            past_points,
            past_images,
        )

    first = _Loop(
        jnp.int32(0),
        start,
        rows + jnp.inf,
        rows.astype(jnp.int32),
        rows == 0,
        past,
        past,
    )
    last = jax.lax.while_loop(unfinished, advance, first)
    return Rest(last.points, last.residual, last.num_evaluations, last.residual <= tolerance)


def _weights(residuals: Float[Array, "m n"], used: Bool[Array, " m"]) -> Float[Array, " m"]:
    """The weights, summing to 1, of the smallest combination of the residuals so far."""
    gram = residuals @ residuals.T
    eye = jnp.eye(len(used), dtype=gram.dtype)
    scale = jnp.trace(gram) + jnp.finfo(gram.dtype).tiny
    # Slots that are still empty get a row of the identity and with it the weight 0.
    both = used[:, None] & used[None, :]
    gram = jnp.where(both, gram / scale + _RIDGE * eye, eye)
    given = used.astype(gram.dtype)
    weights = jnp.linalg.solve(gram, given) * given
    return weights / jnp.sum(weights)
