"""What a linear operation does to the directions of one operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._interpret import bind
from .._memory import known_entries
from ._colors import Seen, color, fits, num_colors
from ._directions import (
    Directions,
    full,
    narrowed,
    place,
    recolor,
    with_slots,
    without_slots,
)
from ._needed import Needed, of_what_is_needed
from ._seen import reach
from ._small import apply_small, contracted_but, summed_but

if TYPE_CHECKING:
    from jaxtyping import Array


def each_slot(apply: Any, num_slot_axes: int, ranks: Sequence[int], *arrays: Array) -> list[Array]:
    """Apply a function of one direction to all, each array with its axes of slots.

    Args:
        apply: arrays without slots to the list of outputs without slots.
        num_slot_axes: of each array.
        ranks: number of axes of each output.
        arrays: with the same slots.
    """
    starts = [place(array.ndim - num_slot_axes) for array in arrays]
    slots = arrays[0].shape[starts[0] : starts[0] + num_slot_axes]
    count = int(np.prod(slots))
    if count == 1:
        plain = [a.reshape(without_slots(a.shape, num_slot_axes)) for a in arrays]
        return [out.reshape(with_slots(out.shape, slots)) for out in apply(*plain)]
    flat = [
        a.reshape((*a.shape[:start], count, *a.shape[start + num_slot_axes :]))
        for a, start in zip(arrays, starts, strict=True)
    ]
    if isinstance(apply, OneOperand) and (joined := apply.joined(*flat)) is not None:
        outs = [joined]
    else:
        outs = jax.vmap(apply, starts, [place(rank) for rank in ranks])(*flat)
    return [
        out.reshape((*out.shape[: place(rank)], *slots, *out.shape[place(rank) + 1 :]))
        for out, rank in zip(outs, ranks, strict=True)
    ]


def push(
    equation: Any, which: int, directions: Directions, apply: OneOperand, needed: Needed
) -> list[Directions]:
    """Derivatives of the outputs, from those of one operand, by what they are needed for.

    Args:
        equation: linear in that operand, where it is.
        which: the operand.
        directions: its derivatives.
        apply: one direction of the operand, `[*dims]` with axes of length 1 along which it is
            constant, to those of the outputs.
        needed: of each output.
    """
    given = [directions.seen if k == which else None for k in range(len(equation.invars))]
    seen = reach(equation, given, apply.values)
    moved = _summed_axes(equation, which, directions, seen[0]) if len(seen) == 1 else {}
    if moved:
        return [_keep_summed(equation, which, directions, apply, moved, seen[0])]
    kept = [of_what_is_needed(own, each) for own, each in zip(seen, needed, strict=True)]
    colors = []
    for axis, before in enumerate(directions.colors):
        each = [(own[axis], part[axis]) for own, part in zip(seen, kept, strict=True)]
        if all(fits(own, before, part) for own, part in each):
            colors.append(before)
            continue
        found = [color(own, part) for own, part in each]
        best = max(found, key=num_colors)
        if not all(fits(own, best, part) for own, part in each):
            best = np.arange(len(before))
        colors.append(best)
    directions = recolor(directions, colors)
    ranks = [each[0].ndim - 1 for each in seen]
    outs = each_slot(apply, len(colors), ranks, directions.array)
    return [
        narrowed(Directions(out, tuple(colors), own), part)
        for out, own, part in zip(outs, seen, kept, strict=True)
    ]


def _summed_axes(
    equation: Any, which: int, directions: Directions, seen: tuple[Seen, ...]
) -> dict[int, int]:
    """Axes of x that are seen along one axis, which is summed over: {axis of x: axis}.

    Each position is seen from a few places of that axis: these alone are summed for it, where a
    slot for each position at each place would be mostly zeros. Where the sum is a product with a
    matrix, that is the cheaper way unless each place sees one position, and each of them one.
    """
    name, params = equation.primitive.name, equation.params
    if name == "reduce_sum":
        summed, single = tuple(params["axes"]), True
    elif name == "dot_general":
        summed = tuple(params["dimension_numbers"][0][which])
        single = known_entries(equation.outvars[0].aval.shape[1:]) <= 1
    else:
        return {}
    shape = equation.invars[which].aval.shape
    found: dict[int, int] = {}
    for axis, (own, colors) in enumerate(zip(directions.seen, directions.colors, strict=True)):
        long = [place for place, n in enumerate(own.shape[:-1]) if n > 1]
        if fits(seen[axis], colors) or len(long) != 1 or long[0] not in summed:
            continue
        matrix = own.reshape(-1, own.shape[-1])
        once = num_colors(colors) == 1 and (matrix.sum(axis=0) == 1).all()
        whole = matrix.shape[0] == matrix.shape[1] == shape[long[0]]
        if long[0] not in found.values() and (single or (once and whole)):
            found[axis] = long[0]
    return found


def _keep_summed(
    equation: Any,
    which: int,
    directions: Directions,
    apply: OneOperand,
    moved: dict[int, int],
    seen: tuple[Seen, ...],
) -> Directions:
    """Apply a sum where some of the axes summed over become slots."""
    num_axes = len(directions.colors)
    shape = equation.invars[which].aval.shape
    colors = []
    for axis, before in enumerate(directions.colors):
        if axis in moved:
            colors.append(before)
        else:
            colors.append(before if fits(seen[axis], before) else color(seen[axis]))
    found = recolor(directions, colors)
    kept = list(moved.values())
    dims = [shape[k] if k in kept else n for k, n in enumerate(found.dims)]
    rank = len(kept) + seen[0].ndim - 1
    # The axes that were kept come first, before and after the slots.
    (out,) = each_slot(lambda one: [apply.keeping(one, kept)], num_axes, [rank], full(found, dims))
    out = jnp.moveaxis(out, range(1, 1 + num_axes), range(num_axes))
    for axis in moved:
        own = directions.seen[axis].reshape(-1, len(colors[axis]))
        out = _gathered(jnp.moveaxis(out, num_axes, axis + 1), axis, own, colors[axis])
        colors[axis] = np.arange(len(colors[axis]))
    start = place(seen[0].ndim - 1)
    out = jnp.moveaxis(out, range(num_axes), range(start, start + num_axes))
    return Directions(out, tuple(colors), seen)


def _gathered(array: Array, axis: int, seen: Seen, colors: np.ndarray) -> Array:
    """Of slots and places beside each other, for each position the sum over what sees it.

    Args:
        array: `[..., slots, places, ...]`.
        axis: of the slots.
        seen: `[places, positions]`.
        colors: the slot of each position.
    """
    places, count = seen.shape
    position, row = np.nonzero(seen.T)
    number = np.arange(len(position)) - np.searchsorted(position, position)
    index = np.full((count, number.max(initial=0) + 1), -1)
    index[position, number] = colors[position] * places + row
    before, after = array.shape[:axis], array.shape[axis + 2 :]
    flat = array.reshape((*before, -1, *after))
    if np.array_equal(index.reshape(-1), np.arange(flat.shape[axis])):
        found = flat
    else:
        found = jnp.take(flat, np.maximum(index, 0).reshape(-1), axis=axis)
    found = found.reshape((*before, *index.shape, *after))
    # What is not seen may be infinite, and that times zero is no number.
    known = (index >= 0).reshape((*index.shape, *(1 for _ in after)))
    found = found if known.all() else jnp.where(known, found, 0)
    return found.squeeze(axis + 1) if index.shape[1] == 1 else found.sum(axis=axis + 1)


class OneOperand:
    """A linear operation as a function of one of its operands."""

    def __init__(self, equation: Any, which: int, values: Sequence[Any]) -> None:
        self.equation, self.which, self.values = equation, which, values

    def __call__(self, array: Array) -> list[Array]:
        """Apply it to an array that may have length 1 along axes where it is constant."""
        return apply_small(self.equation, self.which, array, self.values)

    def joined(self, array: Array) -> Array | None:
        """Apply a product to `[d0, slots, ...]` with the slots as an axis like others."""
        equation = self.equation
        if equation.primitive.name == "dot_general":
            return self._dot_joined(array)
        if equation.primitive.name != "conv_general_dilated" or self.which != 0:
            return None
        numbers = equation.params["dimension_numbers"]
        first = numbers.lhs_spec[0] == numbers.out_spec[0] == 0
        if not first or equation.params["batch_group_count"] != 1:
            return None
        rest = equation.invars[0].aval.shape[1:]
        array = jnp.broadcast_to(array, (*array.shape[:2], *rest))
        images = array.reshape((-1, *rest))
        (out,) = bind(equation, [images, self.values[1]])
        return out.reshape((*array.shape[:2], *out.shape[1:]))

    def _dot_joined(self, array: Array) -> Array:
        """Directions come first in the product, whichever operand has them.

        Their axes are its rows then, and its columns lie together, as the next layer reads them;
        an axis of its own for `jax.vmap` would be moved there and back.
        """
        numbers, params, which = (
            self.equation.params["dimension_numbers"],
            self.equation.params,
            self.which,
        )
        (own, other), (own_batch, other_batch) = (
            each if which == 0 else each[::-1] for each in numbers
        )
        shape = self.equation.invars[which].aval.shape
        start = place(len(shape))
        dims = [n if k in (*own, *own_batch) else array.shape[k + (k >= start)]
                for k, n in enumerate(shape)]  # fmt: skip
        array = jnp.broadcast_to(array, (*dims[:start], array.shape[start], *dims[start:]))
        shifted = [tuple(k + (k >= start) for k in axes) for axes in (own, own_batch)]
        factor = self.values[1 - which]
        found = jax.lax.dot_general(
            array,
            factor,
            dimension_numbers=((shifted[0], other), (shifted[1], other_batch)),
            precision=params["precision"],
            preferred_element_type=params["preferred_element_type"],
        )
        free = [k for k in range(array.ndim) if k not in (*shifted[0], *shifted[1])]
        first = len(own_batch)
        batch, rows = list(range(first)), [first + k for k in range(len(free))]
        columns = list(range(first + len(free), found.ndim))
        slots = rows.pop(free.index(start))
        order = [*batch, *rows, *columns] if which == 0 else [*batch, *columns, *rows]
        order.insert(place(len(order)), slots)
        return found.transpose(order)

    def keeping(self, array: Array, kept: Sequence[int]) -> Array:
        """Apply a sum without summing over some axes: `[*kept, *out]`."""
        if self.equation.primitive.name == "reduce_sum":
            return summed_but(self.equation, array, kept)
        return contracted_but(self.equation, self.which, array, self.values, kept)
