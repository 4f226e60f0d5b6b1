"""Check a plan against numbers: the second look, at one input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basis import FlatJacobian
from .._linearize import Linearization, linearize
from ._coloring import Coloring, ColoringError

_POSITIONS = 12


def verify(coloring: Coloring, lin: Linearization, xs: Any) -> None:
    """Compare products with single basis vectors to what the plan says of them.

    One compiled program of at most 24 products, however large the function is.

    Args:
        coloring: the plan.
        lin: of the function, with the arrays that it closes over and its arguments.
        xs: where to look.

    Raises:
        ColoringError: an entry that the plan takes for zero is not, or the coloured
            diagonal differs from single entries.
    """
    count = coloring.colors.size
    if 0 in (lin.inputs.size, lin.outputs.size, lin.num_examples):
        return
    positions = np.random.default_rng(0).permutation(count)[:_POSITIONS]
    relation = coloring.relation if coloring.reverse else coloring.relation.transposed()
    allowed = relation.rows(positions)
    classes = [coloring.colors == coloring.colors[position] for position in positions]
    held = jax.tree.map(jnp.asarray, (lin.constants, lin.args))
    is_diagonal = coloring.kind == "diagonal"

    @jax.jit
    def look(held: Any, xs: Any, positions: Any, allowed: Any, classes: Any) -> Any:
        flat = FlatJacobian(linearize(lin.with_constants(*held).evaluate, xs))
        side, product = (flat.outputs, flat.vjp) if coloring.reverse else (flat.inputs, flat.jvp)

        def times(vector: Any) -> Any:
            vector = vector.astype(side.dtype)
            return product(jnp.broadcast_to(vector, (flat.num_examples, side.size)))

        def one(each: Any) -> Any:
            (position, basis, permitted) = each
            found = times(basis)
            # 0 * inf at a point without a derivative is no sign of a dependence.
            outside = jnp.where(jnp.isfinite(found) & ~permitted[None], jnp.abs(found), 0)
            where = jnp.argmax(outside.max(0))
            entry = found[:, position] if is_diagonal else found[:, 0]
            return entry, where, outside[:, where].max(), jnp.abs(found).max()

        bases = jax.nn.one_hot(positions, side.size, dtype=bool)
        # One loop for both kinds of vectors, so that the function is compiled once.
        vectors = jnp.concatenate([bases, classes]) if is_diagonal else bases
        repeats = len(vectors) // len(positions)
        return jax.lax.map(
            one, (jnp.tile(positions, repeats), vectors, jnp.tile(allowed, (repeats, 1)))
        )

    entries, where, outside, largest = map(
        np.asarray, look(held, xs, positions, allowed, np.stack(classes))
    )
    count = positions.size
    if outside[:count].any():
        which = int(outside[:count].argmax())
        raise ColoringError(
            f"color: the plan takes entry {where[which]} of the product with basis vector "
            f"{int(positions[which])} for zero, but it is {outside[which]:.3g} in size. Please "
            "report this function; Exact() serves meanwhile."
        )
    if not is_diagonal:
        return
    entries = entries.astype(np.float64)
    apart = np.abs(entries[:count] - entries[count:])
    tolerance = 1e3 * float(jnp.finfo(lin.outputs.dtype).eps) * float(largest[:count].max())
    # Where an entry is not finite there is nothing to compare with.
    if (apart[np.isfinite(apart)] > tolerance).any():
        raise ColoringError(
            f"color: the coloured diagonal differs from single entries by {np.nanmax(apart):.3g}. "
            "Please report this function; Exact() serves meanwhile."
        )
