"""Derivatives by the entries of x, with the entries that nothing sees together sharing a slot.

An intermediate of a network seldom sees all of x at first: a norm sees one token, a convolution a
window. For each axis of x, the positions get colours so that no entry of the intermediate sees
two of one colour; a slot for each colour then holds the derivative by the one that is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._colors import Seen, bounded, color, common, fits, num_colors, union

if TYPE_CHECKING:
    from jaxtyping import Array


class Directions(NamedTuple):
    """Derivatives of an array by the entries of x.

    Attributes:
        array: `[d0, *slots, *rest]`: the array's axes `[d0, *rest]`, of length 1 where the
            derivative is the same along them, and after the first one (`place`) an axis of slots
            for each axis of x. There the sum over the slots reads what lies together.
        colors: for each axis of x the slot of each of its positions.
        seen: for each axis of x which entry sees which position, `[*dims, positions]`.
    """

    array: Array
    colors: tuple[np.ndarray, ...]
    seen: tuple[Seen, ...]

    @property
    def num_slot_axes(self) -> int:
        """Number of axes of x."""
        return len(self.colors)

    @property
    def rank(self) -> int:
        """Number of axes of the array that is differentiated."""
        return self.array.ndim - len(self.colors)

    @property
    def slots(self) -> tuple[int, ...]:
        """Number of slots for each axis of x."""
        start = place(self.rank)
        return self.array.shape[start : start + len(self.colors)]

    @property
    def dims(self) -> tuple[int, ...]:
        """Lengths of the array's axes, 1 where the derivative is the same along them."""
        return without_slots(self.array.shape, len(self.colors))


def place(rank: int) -> int:
    """Where the slots stand among the axes of an array of so many."""
    return min(1, rank)


def without_slots(shape: Sequence[int], num_slot_axes: int) -> tuple[int, ...]:
    """A shape with the axes of slots left out."""
    start = place(len(shape) - num_slot_axes)
    return (*shape[:start], *shape[start + num_slot_axes :])


def with_slots(dims: Sequence[int], slots: Sequence[int]) -> tuple[int, ...]:
    """A shape with the axes of slots put in."""
    start = place(len(dims))
    return (*dims[:start], *slots, *dims[start:])


def seed(shape: Sequence[int], dtype: Any) -> Directions:
    """Derivatives of x itself, `[N, *in]`."""
    seen = itself(shape)
    colors = tuple(np.zeros(each.shape[-1], int) for each in seen)
    return Directions(jnp.ones((1,) * (len(shape) + len(seen)), dtype), colors, seen)


def itself(shape: Sequence[int]) -> tuple[Seen, ...]:
    """What x sees, `[N, *in]`: each entry itself alone."""
    rank, seen = len(shape), []
    for axis in range(1, rank):
        dims = [1] * rank
        dims[axis] = shape[axis]
        seen.append(np.eye(shape[axis], dtype=bool).reshape((*dims, shape[axis])))
    if rank == 1:
        # One number an example, which is one position of one axis.
        seen.append(np.ones((1, 1), bool))
    return tuple(seen)


def recolor(
    directions: Directions, colors: Sequence[np.ndarray], seen: Sequence[Seen] | None = None
) -> Directions:
    """The same derivatives in other slots, of what `seen` sees and zero elsewhere.

    Args:
        directions: derivatives of an array.
        colors: for each axis of x; they must fit `seen`.
        seen: not more than `directions.seen`, which is the default.
    """
    array = directions.array
    masked = seen is not None
    seen = directions.seen if seen is None else tuple(seen)
    for axis, (before, after) in enumerate(zip(directions.colors, colors, strict=True)):
        same = np.array_equal(before, after)
        if same and (not masked or np.array_equal(seen[axis], directions.seen[axis])):
            continue
        array = _recolor_axis(array, axis, len(colors), before, after, seen[axis])
    return Directions(array, tuple(colors), tuple(seen))


def _recolor_axis(
    array: Array, axis: int, num_axes: int, before: np.ndarray, after: np.ndarray, seen: Seen
) -> Array:
    dims, count = seen.shape[:-1], seen.shape[-1]
    rows, positions = np.nonzero(seen.reshape(-1, count))
    index = np.full((int(np.prod(dims)), num_colors(after)), -1)
    index[rows, after[positions]] = before[positions]
    start = place(len(dims))
    index = np.moveaxis(index.reshape((*dims, -1)), -1, start)
    ones = [start + k for k in range(num_axes) if k != axis]
    index = np.expand_dims(index, tuple(ones)) if ones else index
    if num_colors(before) == 1:
        return jnp.where(index >= 0, array, 0)
    found = jnp.take_along_axis(
        array, np.maximum(index, 0), axis=start + axis, mode="promise_in_bounds"
    )
    # What is not seen may be infinite, and that times zero is no number.
    return found if (index >= 0).all() else jnp.where(index >= 0, found, 0)


def narrowed(directions: Directions, seen: tuple[Seen, ...]) -> Directions:
    """The derivatives by what `seen` sees alone, in fewer slots where these suffice."""
    if all(a is b or np.array_equal(a, b) for a, b in zip(seen, directions.seen, strict=True)):
        return directions
    colors = [min(before, color(each), key=num_colors)
              for before, each in zip(directions.colors, seen, strict=True)]  # fmt: skip
    return recolor(directions, colors, seen)


def widened(arrays: Sequence[Any]) -> list[Any]:
    """Arrays in the widest of their types: sums of low precision are accumulated in float32.

    Said rather than left to promotion, which a user may have forbidden. A number of Python has no
    type of its own: an integer is as long as a float32, and holds nothing of a float16.
    """
    types = [each.dtype for each in arrays if hasattr(each, "dtype")]
    wide = max(filter(_is_inexact, types), key=lambda dtype: dtype.itemsize)
    return [jnp.asarray(each, wide) for each in arrays]


def _is_inexact(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def total(parts: Sequence[Directions]) -> Directions:
    """Sum of derivatives of one array."""
    if len(parts) == 1:
        return parts[0]
    seen = union([part.seen for part in parts])
    colors = common(seen, [part.colors for part in parts])
    arrays = widened([recolor(part, colors).array for part in parts])
    return Directions(reduce(jnp.add, arrays), colors, seen)


def scale(directions: Directions, factor: Any) -> Directions:
    """The derivatives times an array that broadcasts to theirs, entry by entry."""
    if np.ndim(factor):
        ones = (1,) * directions.num_slot_axes
        factor = jnp.reshape(factor, with_slots(np.shape(factor), ones))
    array, factor = widened([directions.array, factor])
    return directions._replace(array=array * factor)


def within(directions: Directions, mask: Any) -> Directions:
    """The derivatives where a mask that broadcasts to their array is true, zero elsewhere."""
    ones = (1,) * directions.num_slot_axes
    mask = jnp.reshape(mask, with_slots(np.shape(mask), ones))
    return directions._replace(array=jnp.where(mask, directions.array, 0))


def product(first: Directions, second: Directions) -> Directions:
    """Products of two derivatives by the same entry of x, of two arrays entry by entry."""
    if first is second:
        return first._replace(array=first.array * first.array)
    colors, seen = [], []
    for axis, (own, other) in enumerate(zip(first.seen, second.seen, strict=True)):
        few = min(first.colors[axis], second.colors[axis], key=num_colors)
        both = bounded(own & other)
        colors.append(few if fits(both, few) else color(both))
        seen.append(both)
    arrays = [recolor(each, colors, restricted(each, seen)).array for each in (first, second)]
    arrays = widened(arrays)
    return Directions(arrays[0] * arrays[1], tuple(colors), tuple(seen))


def restricted(directions: Directions, seen: Sequence[Seen]) -> list[Seen]:
    """What both see."""
    return [np.broadcast_to(both, np.broadcast_shapes(both.shape, own.shape)) & own
            for both, own in zip(seen, directions.seen, strict=True)]  # fmt: skip


def summed(directions: Directions) -> Array:
    """Sum over all entries of x, in the shape of the array."""
    return sum_slots(directions.array, directions.num_slot_axes)


def sum_slots(array: Array, num_slot_axes: int) -> Array:
    """Sum over the axes of slots."""
    start = place(array.ndim - num_slot_axes)
    return array.sum(axis=tuple(range(start, start + num_slot_axes)))


def full(directions: Directions, shape: Sequence[int]) -> Array:
    """The array with every axis but the slots written out."""
    return jnp.broadcast_to(directions.array, with_slots(shape, directions.slots))


def spread(
    parts: Sequence[Directions | None], like: Sequence[Any], colors: Sequence[np.ndarray]
) -> list[Array]:
    """Each part in the same slots, with every axis written out; zeros where there is none."""
    slots = tuple(map(num_colors, colors))
    return [
        jnp.zeros(with_slots(each.shape, slots), each.dtype)
        if part is None
        else full(recolor(part, colors), each.shape)
        for part, each in zip(parts, like, strict=True)
    ]


def dense(directions: Directions, shape: Sequence[int]) -> Array:
    """Derivatives by every entry of x, `[d0, *in, *rest]`."""
    colors = tuple(np.arange(len(each)) for each in directions.colors)
    return full(recolor(directions, colors), shape)
