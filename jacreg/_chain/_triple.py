"""Traces of cycles of four convolutions with three diagonals."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._chain import MOST_ENTRIES, Unreadable
from ._cycle import Cycle
from ._examples import map_examples
from ._stencil import Arc, Stencil, common, from_input, from_output

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


def triple(cycle: Cycle, num_examples: int) -> Float[Array, " B"]:
    """Trace of W_4 D_3 W_3 D_2 W_2 D_1 W_1, seen from the space of D_2.

    What a position q there and an entry p of the first space have to do with each other is
    A[q, p], linear in D_1, by one side of the cycle, and B[q, p], linear in D_3, by the other;
    the trace is the sum of D_2 A B. Only offsets p - q that both sides reach are evaluated (a
    cone around each position), and of D_1 and D_3 only the rows that lie between: for an offset
    along the first axis those are fewer than a kernel has.

    Raises:
        Unreadable: an example alone takes too much memory.
    """
    arcs = (
        Arc(from_output(cycle.layers[1]), from_output(cycle.layers[0])),
        Arc(from_input(cycle.layers[2]), from_input(cycle.layers[3])),
    )
    low, high = common(arcs)
    *sizes, channels = cycle.shapes[2]
    # No offset leads farther than from one end of the image to the other.
    low = tuple(max(a, 1 - size) for a, size in zip(low, sizes, strict=True))
    high = tuple(min(b, far - 1) for b, far in zip(high, cycle.shapes[0], strict=False))
    counts = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
    if min(counts) < 1:
        return jnp.zeros((1,), cycle.layers[0].kernel.dtype)
    rows = prod(counts[1:]) * cycle.shapes[0][-1] * channels
    example = prod(sizes) * max(rows, _patch_entries(arcs))
    weights = max(prod(arc.first.counts) * arc.first.weights.shape[-2] * rows for arc in arcs)
    if max(example, weights * counts[0]) > 4 * MOST_ENTRIES:
        raise Unreadable("too much memory")
    kernels = [[_joined(arc, low, counts, first) for first in range(counts[0])] for arc in arcs]
    masks = [
        _inside(axis_low + np.arange(n), size, far)
        for axis_low, n, size, far in zip(low, counts, sizes, cycle.shapes[0], strict=False)
    ]

    def one(before: Any, here: Any, after: Any) -> Float[Array, ""]:
        diagonals = [before[None], here[None], after[None]]
        return _contract(diagonals, arcs, kernels, masks, cycle)[0]

    diagonals = tuple(cycle.diagonal(i, backwards=i == 3) for i in (1, 2, 3))
    return map_examples(one, diagonals, num_examples, example)


def _patch_entries(arcs: tuple[Arc, ...]) -> int:
    return max(prod(arc.first.counts) * arc.first.weights.shape[-2] for arc in arcs)


def _inside(offsets: Any, size: int, far: int) -> Bool[np.ndarray, "size offsets"]:
    position = np.arange(size)[:, None] + offsets
    return (position >= 0) & (position < far)


def _contract(
    diagonals: list[Any], arcs: Any, kernels: Any, masks: Any, cycle: Cycle
) -> Float[Array, " B"]:
    (before, here, after), shapes = diagonals, cycle.shapes
    sizes, channels = shapes[2][:-1], shapes[2][-1]
    patches = [
        _patches(before, arcs[0].first, shapes[1][:-1], sizes),
        _patches(after, arcs[1].first, shapes[3][:-1], sizes),
    ]
    rest = reduce(np.multiply.outer, [np.ones((), bool), *masks[1:]])
    # [q2, o2, q3, o3, ...] -> [q2, q3, ..., o2 o3 ...]
    order = [*range(0, rest.ndim, 2), *range(1, rest.ndim, 2)]
    rest = rest.transpose(order).reshape((*sizes[1:], -1))
    total = jnp.zeros((1,), here.dtype)
    for first in range(masks[0].shape[1]):
        sides = []
        for patch, made in zip(patches, kernels, strict=True):
            rows, kernel = made[first]
            if kernel is None:
                break
            seen = patch[..., rows, :]
            seen = seen.reshape((*seen.shape[: len(sizes) + 1], -1))
            sides.append(seen @ kernel)
        if len(sides) == 2:
            met = cycle.times(*sides)
            met = met.reshape((-1, *sizes, rest.shape[-1], shapes[0][-1], channels))
            column = masks[0][:, first].reshape((-1,) + (1,) * (len(sizes) - 1))
            allowed = jnp.asarray(column[..., None] & rest[None], met.dtype)
            met = cycle.times(jnp.sum(met, axis=-2), allowed[None, ..., None])
            met = cycle.times(met, here[..., None, :])
            total = total + jnp.sum(met, axis=tuple(range(1, met.ndim)))
    return total


def _patches(diagonal: Any, stencil: Stencil, own: Any, sizes: Any) -> Float[Array, "B *q o rest"]:
    """What each position sees of a diagonal, zero outside: offsets along the first axis apart."""
    config = [
        (-start, (size - 1 + start + n - 1) - (far - 1), 0)
        for start, n, size, far in zip(stencil.start, stencil.counts, sizes, own, strict=True)
    ]
    padded = jax.lax.pad(diagonal, jnp.zeros((), diagonal.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    parts = []
    for index in product(*(range(n) for n in stencil.counts)):
        window = tuple(slice(i, i + size) for i, size in zip(index, sizes, strict=True))
        parts.append(padded[(slice(None), *window)])
    stacked = jnp.stack(parts, axis=-2)
    return stacked.reshape((*stacked.shape[:-2], stencil.counts[0], -1))


def _joined(arc: Arc, low: Any, counts: Any, first: int) -> tuple[slice, Any]:
    """Kernel `[rows * other taps * h, other offsets * c * channels]` of an offset, its rows."""
    near, far = arc
    # index[axis][o1, o]: where the second stencil leads from offset o1 to offset o, if it does.
    index = [
        (a + np.arange(n))[None, :] - (s + np.arange(taps))[:, None] - t
        for a, n, s, taps, t in zip(low, counts, near.start, near.counts, far.start, strict=True)
    ]
    index = [np.where((i >= 0) & (i < n), i, n) for i, n in zip(index, far.counts, strict=True)]
    index[0] = index[0][:, first : first + 1]
    used = np.flatnonzero(index[0][:, 0] < far.counts[0])
    if not used.size:
        return slice(0, 0), None
    rows = slice(int(used[0]), int(used[-1]) + 1)
    index[0] = index[0][rows]
    dims = len(counts)
    padded = jnp.pad(far.weights, [(0, 1)] * dims + [(0, 0), (0, 0)])
    spread = []
    for axis, each in enumerate(index):
        shape = [1] * (2 * dims)
        shape[axis], shape[dims + axis] = each.shape
        spread.append(each.reshape(shape))
    # [*o1, *o, c, h] * [*o1, h, channels]
    weights = padded[tuple(spread)]
    taps, offsets = weights.shape[:dims], weights.shape[dims : 2 * dims]
    weights = weights.reshape((prod(taps), prod(offsets), *weights.shape[-2:]))
    own = near.weights[rows]
    own = own.reshape((prod(taps), *own.shape[-2:]))
    joined = jnp.einsum("toch,thk->thock", weights, own)
    return rows, joined.reshape((joined.shape[0] * joined.shape[1], -1))
