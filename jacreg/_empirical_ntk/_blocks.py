"""Kernels of many examples, a block of them with a block of others at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._memory import is_symbolic

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

# Up to so many blocks are unrolled, as convolutions in XLA's loops are slow on CPU. The compiler
# may then keep all of them, so that the bound on memory is that of all of them together.
_FEW_BLOCKS = 2


def by_blocks(
    features: Callable[[PyTree], Any],
    contract: Callable[[Any, Any], Float[Array, "I J ..."]],
    xs: PyTree,
    others: PyTree | None,
    block: int,
) -> Float[Array, "N1 N2 ..."]:
    """Return the kernel of all examples.

    Args:
        features: of a block of examples, what `contract` takes.
        contract: the kernel of two blocks, `[I, J]` or `[I, J, M, M]`.
        xs: `[N1, ...]`.
        others: `[N2, ...]`; None means `xs`, a symmetric kernel.
        block: examples at once.
    """
    left = _blocks(xs, block)
    right = left if others is None else _blocks(others, block)
    count1, count2 = length(left), length(right)
    sizes = (length(at(left, 0)), length(at(right, 0)))

    def part(first: Any, second: Any) -> Float[Array, "I J ..."]:
        # Features that are the same for all examples gave one entry for all.
        found = contract(first, second)
        return jnp.broadcast_to(found, (*sizes, *found.shape[2:]))

    if max(count1, count2) <= _FEW_BLOCKS:
        grid = _unrolled(features, part, left, right, others is None)
    elif others is None:
        grid = _symmetric(features, part, left)
    else:

        def row(i: Array) -> Array:
            held = features(at(left, i))
            return jax.lax.map(lambda j: part(held, features(at(right, j))), jnp.arange(count2))

        grid = jax.lax.map(row, jnp.arange(count1))
    grid = jnp.moveaxis(grid, 2, 1)
    full = grid.reshape((count1 * grid.shape[1], count2 * grid.shape[3], *grid.shape[4:]))
    return full[: length(xs), : length(xs if others is None else others)]


def _unrolled(
    features: Callable[[PyTree], Any],
    contract: Callable[[Any, Any], Array],
    left: PyTree,
    right: PyTree,
    symmetric: bool,
) -> Float[Array, "B1 B2 I J ..."]:
    rows = [features(at(left, i)) for i in range(length(left))]
    columns = rows if symmetric else [features(at(right, j)) for j in range(length(right))]
    found: dict[tuple[int, int], Array] = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            mirror = found.get((j, i)) if symmetric else None
            found[i, j] = contract(row, column) if mirror is None else _mirrored(mirror)
    parts = [found[i, j] for i in range(len(rows)) for j in range(len(columns))]
    return jnp.stack(parts).reshape((len(rows), len(columns), *parts[0].shape))


def _symmetric(
    features: Callable[[PyTree], Any], contract: Callable[[Any, Any], Array], blocks: PyTree
) -> Float[Array, "B B I J ..."]:
    """Block i with itself and with the half of the others that follow it, around the circle."""
    count = length(blocks)
    half = count // 2

    def row(i: Array) -> Array:
        held = features(at(blocks, i))
        following = jax.lax.map(
            lambda step: contract(held, features(at(blocks, (i + step) % count))),
            jnp.arange(1, half + 1),
        )
        return jnp.concatenate([contract(held, held)[None], following])

    parts = jax.lax.map(row, jnp.arange(count))
    parts = parts.reshape((count * (half + 1), *parts.shape[2:]))
    both = jnp.concatenate([parts, jax.vmap(_mirrored)(parts)])
    order = []
    for i in range(count):
        for j in range(count):
            step, back = (j - i) % count, (i - j) % count
            mirrored = len(parts) + j * (half + 1) + back
            order.append(i * (half + 1) + step if step <= half else mirrored)
    return both[jnp.array(order)].reshape((count, count, *both.shape[1:]))


def _mirrored(part: Float[Array, "I J ..."]) -> Float[Array, "J I ..."]:
    """The kernel of the second block with the first: its outputs change places too."""
    swapped = jnp.swapaxes(part, 0, 1)
    return jnp.swapaxes(swapped, 2, 3) if part.ndim == 4 else swapped


def examples_run(n1: int, n2: int, block: int, symmetric: bool) -> int:
    """Examples whose features are computed, each as often as it is."""
    count1, count2 = -(-n1 // block), -(-n2 // block)
    if max(count1, count2) <= _FEW_BLOCKS:
        return n1 if symmetric else n1 + n2
    return n1 * (1 + count1 // 2) if symmetric else n1 + count1 * n2


def _blocks(batch: PyTree, block: int) -> PyTree:
    """`[N, ...]` as `[blocks, block, ...]`, the last row repeated to fill the last block."""
    size = length(batch)
    if is_symbolic(size):
        return jax.tree.map(lambda x: x[None], batch)
    block = min(block, size)
    count = -(-size // block)
    block = -(-size // count)
    if count == 1:
        return jax.tree.map(lambda x: x[None], batch)
    index = jnp.minimum(jnp.arange(count * block), size - 1)
    return jax.tree.map(lambda x: x[index].reshape((count, block, *x.shape[1:])), batch)


def length(batch: PyTree) -> int:
    """Examples of a batch."""
    return jax.tree.leaves(batch)[0].shape[0]


def at(batch: PyTree, index: Array | int | slice) -> PyTree:
    """One example of a batch, or some."""
    return jax.tree.map(lambda x: x[index], batch)
