"""Traces of cycles of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._cycle import Cycle, guarded_product
from ._examples import map_examples

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def shares_products(cycle: Cycle) -> bool:
    """Whether all examples share the products of matrices that a cycle takes."""
    return len(cycle.layers) == 1 or (len(cycle.layers) <= 3 and len(cycle.modulated) <= 2)


def shared_trace(cycle: Cycle) -> Float[Array, " B"]:
    """Trace of a cycle without spatial axes, `[N or 1]`, where that is so.

    With two diagonals D_b^T (W * K^T) D_a: the other matrices multiply to one K that is the same
    for all examples, so that an example costs no more than one layer.
    """
    if len(cycle.layers) == 1:
        return cycle.diagonal(0) @ jnp.diagonal(cycle.layers[0].kernel)
    return _bilinear(cycle)


def _bilinear(cycle: Cycle) -> Float[Array, " B"]:
    if len(cycle.layers) == 3:
        # Cut so that the space without a diagonal comes last.
        free = next(i for i in range(3) if not cycle.diagonals[i])
        cycle = cycle.rotated((free + 1) % 3)
    kernel = cycle.layers[1].kernel
    for layer in cycle.layers[2:]:
        kernel = kernel @ layer.kernel
    pairs = cycle.layers[0].kernel * kernel.T
    first, second = cycle.diagonal(0), cycle.diagonal(1)
    return jnp.sum(cycle.times(first @ pairs, second), axis=1)


class Sides(NamedTuple):
    """A cycle cut at its narrowest space: rows carried from both ends to the middle.

    Attributes:
        there: kernel, diagonal, kernel, ..., kernel along the arrows: `[n, a]`, `[N or 1, a]`, ...
        back: the same against the arrows, of the kernels transposed.
        middle: the diagonal where both meet, times a number.
        first: the diagonal of the space that was cut, None for the identity.
    """

    there: tuple[Any, ...]
    back: tuple[Any, ...]
    middle: Any
    first: Any


def sides(cycle: Cycle, weight: Any) -> Sides:
    """Cut a cycle, the trace of which counts `weight` times."""
    widths = [shape[0] for shape in cycle.shapes]
    cycle = cycle.rotated(widths.index(min(widths)))
    kernels, count = [layer.kernel for layer in cycle.layers], len(cycle.layers)
    middle = count // 2
    there, back = (kernels[0],), (kernels[-1].T,)
    for i in range(1, middle):
        there = (*there, cycle.diagonal(i), kernels[i])
    for i in range(count - 1, middle, -1):
        back = (*back, cycle.diagonal(i, backwards=True), kernels[i - 1].T)
    first = cycle.diagonal(0) if cycle.diagonals[0] else None
    return Sides(there, back, cycle.diagonal(middle) * weight, first)


def trace_by_rows(
    cycles: Sequence[Sides], twins: Sequence[int], num_examples: int, *, guarded: bool
) -> Float[Array, " B"]:
    """Sum of the traces of cycles, `[N or 1]`: one row for each entry of the narrowest space.

    What several rows pass in the same order is evaluated once: both halves of a Hessian are one,
    and each of a network's layers takes up what the layers before it did.

    Args:
        cycles: cut.
        twins: for each of their arrays the place of the first that is equal to it.
        num_examples: N.
        guarded: a condition left out what may not be finite.
    """
    times = guarded_product if guarded else mul
    arrays, treedef = jax.tree.flatten(list(cycles))
    places: list[Sides] = jax.tree.unflatten(treedef, twins)
    diagonals = {
        place: arrays[place]
        for cut in places
        for place in (*cut.there[1::2], *cut.back[1::2], cut.middle, cut.first)
        if place is not None
    }

    def one(rows: dict[int, Any]) -> Float[Array, ""]:
        known: dict[tuple[int, ...], Any] = {}

        def carried(side: tuple[int, ...]) -> Any:
            if side not in known:
                *before, kernel = side
                found = arrays[kernel]
                if before:
                    # A kernel is finite: no guard for the first layer.
                    product = times if len(before) > 2 else mul
                    found = product(carried(tuple(before[:-1])), rows[before[-1]][None]) @ found
                known[side] = found
            return known[side]

        total = jnp.zeros((), arrays[0].dtype)
        for cut in places:
            there, back = carried(cut.there), carried(cut.back)
            # Nothing is zero on one side alone where both are one.
            met = there * back if cut.there == cut.back else times(there, back)
            if cut.first is not None:
                met = times(met, rows[cut.first][:, None])
            if guarded:
                total = total + jnp.sum(times(jnp.sum(met, axis=0), rows[cut.middle]))
            else:
                total = total + jnp.sum(met * rows[cut.middle][None])
        return total

    entries = max(
        cut.there[0].shape[0] * max(kernel.shape[1] for kernel in (*cut.there[::2], *cut.back[::2]))
        for cut in cycles
    )
    return map_examples(one, (diagonals,), num_examples, entries)
