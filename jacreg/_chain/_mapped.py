"""Traces of cycles of convolutions that are padded by other entries than zeros.

A padded entry is an entry of the image again, so that near the border a kernel meets the same
entry twice and the way back is another one: a circle has no border, a reflection and a repeated
edge have one of a few entries. What a position sees is told axis by axis by tables, and
positions that see the same make a region with a kernel of its own.
"""

from __future__ import annotations

from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._chain import MOST_ENTRIES, Layer, Unreadable
from ._cycle import Cycle

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

# Pieces of an image that need kernels of their own; a 5x5 kernel has 25.
MOST_REGIONS = 32


def mapped_trace(cycle: Cycle) -> Float[Array, " B"]:
    """Trace of a cycle of up to three convolutions with up to two diagonals, `[N or 1]`.

    Raises:
        Unreadable: more of them, or more regions than pay.
    """
    count, modulated = len(cycle.layers), cycle.modulated
    if count == 1:
        return _center(cycle)
    if count > 3 or len(modulated) > 2:
        raise Unreadable("too many convolutions with a padding of their own")
    if count == 3:
        free = next(i for i in range(3) if i not in modulated)
        cycle = cycle.rotated((free + 1) % 3)
    return _bilinear(cycle)


def _center(cycle: Cycle) -> Float[Array, " B"]:
    (layer,), sizes = cycle.layers, cycle.shapes[0][:-1]
    weights = jnp.diagonal(layer.kernel, axis1=-2, axis2=-1)
    for axis, size in enumerate(sizes):
        own = _table(layer, axis, size, size) == np.arange(size)[:, None]
        # [*sizes so far, tap, *taps, c]: the tap of this axis becomes a position.
        weights = jnp.moveaxis(
            jnp.tensordot(jnp.asarray(own, weights.dtype), weights, ([1], [axis])), 0, axis
        )
    diagonal = cycle.diagonal(0)
    return jnp.sum(cycle.times(diagonal, weights[None]), axis=tuple(range(1, diagonal.ndim)))


def _bilinear(cycle: Cycle) -> Float[Array, " B"]:
    """Sum over p, q of D_1[p] W_0[p, q] D_0[q] times the way back from p to q.

    The way back is one layer, or two with a space between that has no diagonal. All examples
    share it, and so do all positions of a region.
    """
    near, *back = cycle.layers
    dims, sizes, far = cycle.dims, cycle.shapes[1][:-1], cycle.shapes[0][:-1]
    taps = near.kernel.shape[:dims]
    there = [_table(near, axis, sizes[axis], far[axis]) for axis in range(dims)]
    masks = [_closed(cycle, axis, there[axis]) for axis in range(dims)]
    # [*ways along each axis, q channels, p channels]
    ways = _ways(back, dims)
    entries = [prod(mask.shape[1:]) for mask in masks]
    if prod(entries) * prod(near.kernel.shape[-2:]) > MOST_ENTRIES:
        raise Unreadable("too many ways back")
    regions = list(product(*(_runs(mask) for mask in masks)))
    if len(regions) > MOST_REGIONS:
        raise Unreadable("too many regions")
    spread = cycle.diagonal(0)
    for axis, table in enumerate(_padded_tables(near, sizes, far)):
        spread = _taken(spread, axis + 1, table)
    other, total = cycle.diagonal(1), jnp.zeros((1,), spread.dtype)
    for region in regions:
        kernel = ways
        for axis, (first, _) in enumerate(region):
            # [*taps so far, way, *ways, q, p]: the ways of this axis become its taps.
            mask = jnp.asarray(masks[axis][first], ways.dtype)
            kernel = jnp.moveaxis(jnp.tensordot(mask, kernel, ([1], [axis])), 0, axis)
        kernel = kernel * near.kernel
        here = tuple(slice(first, last) for first, last in region)
        seen = tuple(
            slice(first, last + n - 1) for (first, last), n in zip(region, taps, strict=True)
        )
        found = cycle.times(
            valid(spread[(slice(None), *seen)], kernel), other[(slice(None), *here)]
        )
        total = total + jnp.sum(found, axis=tuple(range(1, found.ndim)))
    return total


def _table(layer: Layer, axis: int, size: int, far: int) -> Int[np.ndarray, "size taps"]:
    """The input entry that tap t of output q reads along an axis, -1 for none."""
    (padded,) = _padded_tables(layer, [size], [far], axis)
    taps = layer.kernel.shape[axis]
    return padded[np.arange(size)[:, None] + np.arange(taps)]


def _padded_tables(layer: Layer, sizes: Any, far: Any, first: int = 0) -> list[np.ndarray]:
    """The input entry at each place of the padded input, as far as the outputs read it."""
    tables = []
    for axis, (size, length) in enumerate(zip(sizes, far, strict=True), start=first):
        count = size + layer.kernel.shape[axis] - 1
        if layer.reads is None:
            line = np.arange(count) - layer.low[axis]
            tables.append(np.where((line >= 0) & (line < length), line, -1))
        else:
            tables.append(layer.reads[axis])
    return tables


def _closed(cycle: Cycle, axis: int, there: np.ndarray) -> Bool[np.ndarray, "size taps ways"]:
    """Which ways back along an axis lead from what tap t of p reads to p again."""
    count = len(cycle.layers)
    sizes = [shape[axis] for shape in cycle.shapes]
    # From space 0 as an output of the last layer towards space 1.
    places = there[..., None]
    for number in range(count - 1, 0, -1):
        layer = cycle.layers[number]
        table = _table(layer, axis, sizes[(number + 1) % count], sizes[number])
        table = np.concatenate([table, np.full((1, table.shape[1]), -1)])
        places = table[places].reshape((*there.shape, -1))
    return places == np.arange(sizes[1])[:, None, None]


def _ways(back: list[Layer], dims: int) -> Any:
    """Kernel of the way back, `[*ways, q channels, p channels]`: taps of the last layer first."""
    if len(back) == 1:
        return jnp.swapaxes(back[0].kernel, -1, -2)
    first, last = (layer.kernel for layer in back)
    joined = jnp.tensordot(last, first, ([dims], [dims + 1]))
    # [*last taps, q, *first taps, p] -> [last, first, ..., q, p]
    order = [place for axis in range(dims) for place in (axis, dims + 1 + axis)]
    joined = jnp.transpose(joined, (*order, dims, 2 * dims + 1))
    shape = [n * m for n, m in zip(last.shape[:dims], first.shape[:dims], strict=True)]
    return joined.reshape((*shape, *joined.shape[-2:]))


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Runs of positions `first, last` with the same mask."""
    flat = mask.reshape((len(mask), -1))
    changes = 1 + np.flatnonzero((flat[1:] != flat[:-1]).any(1))
    return list(pairwise([0, *(int(i) for i in changes), len(mask)]))


def _taken(array: Any, axis: int, places: np.ndarray) -> Any:
    """Entries along an axis, zero where the place is -1."""
    kept = jnp.asarray(places >= 0)
    shape = [1] * array.ndim
    shape[axis] = len(places)
    taken = jnp.take(array, jnp.asarray(np.maximum(places, 0)), axis=axis)
    return jnp.where(kept.reshape(shape), taken, jnp.zeros((), array.dtype))


def valid(image: Any, kernel: Any) -> Any:
    """A convolution `[N, *spatial, n]` by `[*taps, n, m]` without padding."""
    dims = image.ndim - 2
    axes = tuple(range(1, dims + 1))
    numbers = jax.lax.ConvDimensionNumbers(
        (0, dims + 1, *axes), (dims + 1, dims, *range(dims)), (0, dims + 1, *axes)
    )
    return jax.lax.conv_general_dilated(
        image, kernel, (1,) * dims, "VALID", dimension_numbers=numbers
    )
