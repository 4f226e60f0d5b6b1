"""Traces of cycles of convolutions with two diagonals at most.

From a position of a space with a diagonal, ways lead to entries of the other one, by one layer or
by two with a space between, and others from there on round the cycle to the position. What they
meet is told axis by axis, by tables: around an image are zeros, or entries of it again, so that
near the border a kernel meets the same entry twice (a circle has no border, a reflection and a
repeated edge have one of a few entries). All examples share the ways, and so do all positions that
see the same: a region, which has a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._chain import MOST_ENTRIES, Layer, Unreadable
from ._cycle import Cycle

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

# Pieces of an image that need kernels of their own; a 5x5 kernel has 25.
_MOST_REGIONS = 32


def center(cycle: Cycle) -> Float[Array, " B"]:
    """Trace of a single convolution and a diagonal, `[N or 1]`."""
    (layer,), sizes = cycle.layers, cycle.shapes[0][:-1]
    weights = jnp.diagonal(layer.kernel, axis1=-2, axis2=-1)
    own = [_table(layer, axis, n, n) == np.arange(n)[:, None] for axis, n in enumerate(sizes)]
    own = [mask[:1] if (mask == mask[:1]).all() else mask for mask in own]
    # [*taps, c]: the taps become positions, one where it is the same for all.
    weights = _by_region(weights, [mask[None] for mask in own])[(0,) * len(sizes)]
    diagonal = cycle.diagonal(0)
    return jnp.sum(cycle.times(diagonal, weights[None]), axis=tuple(range(1, diagonal.ndim)))


def bilinear(cycle: Cycle) -> Float[Array, " B"]:
    """Sum over p, q of D_b[p] D_a[q] times the ways from p to q and back, `[N or 1]`.

    The space a is the first one and b the next with a diagonal. Of p and q the ways from p lead
    against the arrows, the others on from q, where the cycle ends, against them too.

    Raises:
        Unreadable: more ways or regions than pay.
    """
    dims, near = cycle.dims, 2 if len(cycle.layers) == 4 else 1
    there, back = cycle.layers[:near][::-1], cycle.layers[near:][::-1]
    axes = [_axis(cycle, near, axis) for axis in range(dims)]
    spread, other = cycle.diagonal(0), cycle.diagonal(near)
    if any(not axis.offsets for axis in axes):
        return jnp.zeros((1,), spread.dtype)
    if any(layer.reads is not None for layer in cycle.layers):
        entries = prod(axis.offsets * axis.back.shape[2] for axis in axes)
        if entries * prod(there[0].kernel.shape[-2:]) > MOST_ENTRIES:
            raise Unreadable("too many ways back")
    runs = [axis.regions for axis in axes]
    if prod(map(len, runs)) > _MOST_REGIONS:
        raise Unreadable("too many regions")
    starts = [[start for start, _ in each] for each in runs]
    # [*regions, *offsets, q channels, p channels]
    first = [axis.there[each] for axis, each in zip(axes, starts, strict=True)]
    second = [axis.back[each] for axis, each in zip(axes, starts, strict=True)]
    kernels = _by_region(_ways(there, dims), first)
    kernels = kernels * _by_region(jnp.swapaxes(_ways(back, dims), -1, -2), second)
    spread = _padded(spread, [axis.places for axis in axes])
    total = jnp.zeros((1,), spread.dtype)
    for index in np.ndindex(*map(len, runs)):
        region = [each[number] for each, number in zip(runs, index, strict=True)]
        here = tuple(slice(start, stop) for start, stop in region)
        seen = tuple(
            slice(start, stop + axis.offsets - 1)
            for (start, stop), axis in zip(region, axes, strict=True)
        )
        found = cycle.times(
            _valid(spread[(slice(None), *seen)], kernels[index]), other[(slice(None), *here)]
        )
        total = total + jnp.sum(found, axis=tuple(range(1, found.ndim)))
    return total


class _Axis(NamedTuple):
    """Ways along one axis, by the offset of the entry q that they meet from the position p.

    Attributes:
        places: the entry at each place of the padded input, -1 for none; p sees those from p on.
        there: which ways lead from p to the offset, `[p, offset, way]`.
        back: which lead from that entry to p.
    """

    places: np.ndarray
    there: Bool[np.ndarray, "p o w"]
    back: Bool[np.ndarray, "p o w"]

    @property
    def offsets(self) -> int:
        """How many there are."""
        return self.there.shape[1]

    @property
    def regions(self) -> list[tuple[int, int]]:
        """Runs of positions `first, last` with the same ways."""
        size = len(self.there)
        flat = np.concatenate([each.reshape(size, -1) for each in (self.there, self.back)], axis=1)
        changes = 1 + np.flatnonzero((flat[1:] != flat[:-1]).any(1))
        return list(pairwise([0, *map(int, changes), size]))


def _axis(cycle: Cycle, near: int, axis: int) -> _Axis:
    count, sizes = len(cycle.layers), [shape[axis] for shape in cycle.shapes]
    size, first = sizes[near], cycle.layers[near - 1]
    taps = [layer.kernel.shape[axis] for layer in cycle.layers[:near][::-1]]
    offset = reduce(np.add.outer, map(np.arange, taps)).reshape(-1)
    offsets = np.arange(offset.max() + 1)
    if near == 1:
        places, inside = _padded_places(first, axis, size, sizes[0]), np.ones((size, 1), bool)
    else:
        low = sum(layer.low[axis] for layer in cycle.layers[:near])
        places = _line(size + len(offsets) - 1, low, sizes[0])
        inside = np.repeat(_table(first, axis, size, sizes[1]) >= 0, taps[1], axis=1)
    there = (offset == offsets[:, None]) & inside[:, None]
    met = places[np.arange(size)[:, None] + offsets]
    at = met[..., None]
    for number in range(count - 1, near - 1, -1):
        table = _table(cycle.layers[number], axis, sizes[(number + 1) % count], sizes[number])
        table = np.concatenate([table, np.full((1, table.shape[1]), -1)])
        at = table[at].reshape((*met.shape, -1))
    back = at == np.arange(size)[:, None, None]
    for number in offsets:
        # Where there is no entry the ways are of no account: as at the nearest position.
        real = np.flatnonzero(met[:, number] >= 0)
        if real.size:
            nearest = real[np.abs(real - np.arange(size)[:, None]).argmin(1)]
            there[:, number], back[:, number] = there[nearest, number], back[nearest, number]
        else:
            back[:, number] = False
    used = np.flatnonzero(there.any((0, 2)) & back.any((0, 2)))
    start, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
    return _Axis(places[start : size + stop - 1], there[:, start:stop], back[:, start:stop])


def _table(layer: Layer, axis: int, size: int, far: int) -> Int[np.ndarray, "size taps"]:
    """The input entry that tap t of output q reads along an axis, -1 for none."""
    places = _padded_places(layer, axis, size, far)
    return places[np.arange(size)[:, None] + np.arange(layer.kernel.shape[axis])]


def _padded_places(layer: Layer, axis: int, size: int, far: int) -> np.ndarray:
    """The input entry at each place of the padded input, as far as the outputs read it."""
    if layer.reads is not None:
        return layer.reads[axis]
    return _line(size + layer.kernel.shape[axis] - 1, layer.low[axis], far)


def _line(count: int, low: int, far: int) -> np.ndarray:
    """That of an input with zeros around it."""
    line = np.arange(count) - low
    return np.where((line >= 0) & (line < far), line, -1)


def _ways(layers: Sequence[Layer], dims: int) -> Any:
    """Kernel of the ways against the arrows by one layer or two, `[*ways, in, out]`."""
    if len(layers) == 1:
        return layers[0].kernel
    one, other = (layer.kernel for layer in layers)
    joined = jnp.tensordot(one, other, ([dims], [dims + 1]))
    # [*taps of one, out, *taps of the other, in] -> [one, other, ..., in, out]
    order = [place for axis in range(dims) for place in (axis, dims + 1 + axis)]
    joined = jnp.transpose(joined, (*order, 2 * dims + 1, dims))
    shape = [n * m for n, m in zip(one.shape[:dims], other.shape[:dims], strict=True)]
    return joined.reshape((*shape, *joined.shape[-2:]))


def _by_region(kernel: Any, masks: Sequence[Bool[np.ndarray, "r o w"]]) -> Any:
    """Sums over the ways `[*ways, ...]` to each offset, in each region: `[*r, *o, ...]`."""
    for axis, mask in enumerate(masks):
        if (mask == mask[:1]).all():
            mask = mask[:1]
        same = np.eye(mask.shape[1], dtype=bool)[None]
        if np.array_equal(mask, same) or np.array_equal(mask, same[:, ::-1]):
            # One way to each offset: of two layers alone.
            kernel = kernel if mask[0, 0, 0] else jnp.flip(kernel, 2 * axis)
            kernel = jnp.expand_dims(kernel, axis)
            continue
        found = jnp.tensordot(jnp.asarray(mask, kernel.dtype), kernel, ([2], [2 * axis]))
        kernel = jnp.moveaxis(found, (0, 1), (axis, 2 * axis + 1))
    return kernel


def _padded(image: Any, tables: Sequence[np.ndarray]) -> Any:
    """The entries at these places along each spatial axis, zero where the place is -1."""
    config = [(0, 0, 0)] * image.ndim
    for axis, places in enumerate(tables, start=1):
        real, size = np.flatnonzero(places >= 0), image.shape[axis]
        low = int(real[0] - places[real[0]]) if real.size else size
        if np.array_equal(places, _line(len(places), low, size)):
            config[axis] = (low, len(places) - low - size, 0)
            continue
        shape = [1] * image.ndim
        shape[axis] = len(places)
        taken = jnp.take(image, jnp.asarray(np.maximum(places, 0)), axis=axis)
        image = jnp.where((places >= 0).reshape(shape), taken, jnp.zeros((), image.dtype))
    return jax.lax.pad(image, jnp.zeros((), image.dtype), config)


def _valid(image: Any, kernel: Any) -> Any:
    """A convolution `[N, *spatial, n]` by `[*taps, n, m]` without padding."""
    dims = image.ndim - 2
    axes = tuple(range(1, dims + 1))
    numbers = jax.lax.ConvDimensionNumbers(
        (0, dims + 1, *axes), (dims + 1, dims, *range(dims)), (0, dims + 1, *axes)
    )
    return jax.lax.conv_general_dilated(
        image, kernel, (1,) * dims, "VALID", dimension_numbers=numbers
    )
