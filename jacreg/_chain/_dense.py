"""Traces of cycles of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from ._chain import Cycle
from ._examples import map_examples

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def dense_trace(cycle: Cycle, num_examples: int) -> Float[Array, " B"]:
    """Trace of a cycle without spatial axes, `[N or 1]`.

    With at most two diagonals in a cycle of up to three matrices, D_b^T (W * K^T) D_a: the
    other matrices multiply to one K that is the same for all examples, so that an example costs
    no more than one layer. Otherwise one row for each entry of the narrowest space, carried
    from both ends to the middle.
    """
    if len(cycle.layers) == 1:
        return cycle.diagonal(0) @ jnp.diagonal(cycle.layers[0].kernel)
    if len(cycle.layers) <= 3 and len(cycle.modulated) <= 2:
        return _bilinear(cycle)
    return _by_rows(cycle, num_examples)


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
    return jnp.sum((first @ pairs) * second, axis=1)


def _by_rows(cycle: Cycle, num_examples: int) -> Float[Array, " B"]:
    widths = [shape[0] for shape in cycle.shapes]
    cycle = cycle.rotated(widths.index(min(widths)))
    kernels, count = [layer.kernel for layer in cycle.layers], len(cycle.layers)
    middle = count // 2

    def one(diagonals: list[Any], backwards: list[Any]) -> Float[Array, ""]:
        there = kernels[0]
        for i in range(1, middle):
            there = (there * diagonals[i]) @ kernels[i]
        back = kernels[-1].T
        for i in range(count - 1, middle, -1):
            back = (back * backwards[i]) @ kernels[i - 1].T
        return jnp.sum(there * back * diagonals[middle] * diagonals[0][:, None])

    forth = [cycle.diagonal(i) for i in range(count)]
    back = [cycle.diagonal(i, backwards=True) for i in range(count)]
    return map_examples(one, (forth, back), num_examples, min(widths) * max(widths))
