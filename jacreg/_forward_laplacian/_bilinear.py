"""Products of two intermediates: contractions and convolutions where both sides depend on x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._interpret import bind
from ._carried import Carried, Order, at_rank, seen_of, value_of
from ._colors import Seen, color, compact, fits, num_colors
from ._conditions import behind, either
from ._directions import Directions, full, place, recolor, summed, total
from ._push import OneOperand, each_slot, push
from ._seen import reach

if TYPE_CHECKING:
    from jaxtyping import Array


def bilinear(equation: Any, operands: Sequence[Any], order: Order) -> Carried:
    """Carry an operation that is linear in each of its two operands."""
    values = [value_of(operand) for operand in operands]
    (value,) = bind(equation, values)
    sides = [side for side in (0, 1) if isinstance(operands[side], Carried)]
    by = {side: OneOperand(equation, side, values) for side in sides}
    (seen,) = reach(equation, list(map(seen_of, operands)), values)

    def through(side: int, directions: Directions) -> Directions:
        return push(equation, side, directions, by[side], order.needed(equation))[0]

    def tangent() -> Directions:
        return total([through(side, operands[side].tangent()) for side in sides])

    def second() -> Any:
        terms = []
        for side in sides:
            own = operands[side].second()
            if own is None:
                continue
            if order.keep:
                terms.append(through(side, own))
            else:
                terms.append(by[side](at_rank(own, values[side].ndim))[0])
        if len(sides) == 2:
            pair = [operand.tangent() for operand in operands]
            terms.append(order.scale(_cross(equation, pair, seen, order), 2))
        return order.total(terms)

    def mask() -> Any:
        parts = [behind(equation, side, operands[side].through()) for side in sides]
        return either(parts) if order.conditions else None

    return Carried(value, seen, tangent, second, mask)


def _cross(equation: Any, pair: Sequence[Directions], seen: tuple[Seen, ...], order: Order) -> Any:
    """The operation on the derivatives of both operands by the same entry of x."""
    if equation.primitive.name == "dot_general" and not order.keep:
        return _contracted(equation, pair)
    colors = tuple(map(color, seen))
    shapes = [atom.aval.shape for atom in equation.invars]
    arrays = [full(recolor(own, colors), shape) for own, shape in zip(pair, shapes, strict=True)]
    rank = seen[0].ndim - 1
    (found,) = each_slot(lambda *both: bind(equation, both), len(colors), [rank], *arrays)
    directions = Directions(found, colors, seen)
    return directions if order.keep else summed(directions)


def _contracted(equation: Any, pair: Sequence[Directions]) -> Array:
    """Sum over all directions: one more axis of the contraction, so that none is kept."""
    (contracted, batch), params = equation.params["dimension_numbers"], equation.params
    shapes = [atom.aval.shape for atom in equation.invars]
    joint = [_joint(pair, side, contracted, batch, shapes) for side in (0, 1)]
    num_batch, num_contracted = len(batch[0]), len(contracted[0])
    rank = joint[0][0].ndim - 1
    shared = (*range(num_batch), *range(rank - num_contracted, rank))
    colors, restricted, mask = [], ([], []), None
    for axis, (own, other) in enumerate(zip(*joint, strict=True)):
        both = own & other
        natural = [directions.colors[axis] for directions in pair]
        long = [k for k in range(rank) if max(own.shape[k], other.shape[k]) > 1]
        few = min(natural, key=num_colors)
        if set(long) <= set(shared) and fits(both, few):
            colors.append(few)
            for side in (0, 1):
                restricted[side].append(_back(both & joint[side][axis], side, contracted, batch,
                                               shapes))  # fmt: skip
            continue
        for side in (0, 1):
            restricted[side].append(pair[side].seen[axis])
        one_each = all(num_colors(each) == 1 for each in natural)
        if one_each and not set(long) & set(range(rank - num_contracted, rank)):
            colors.append(natural[0])
            meets = both.any(axis=-1).reshape(both.shape[: rank - num_contracted])
            mask = meets if mask is None else mask & meets
        else:
            colors.append(color(compact(own | other)))
    arrays, starts = [], []
    for side in (0, 1):
        own = recolor(pair[side], colors, restricted[side])
        needed = (*contracted[side], *batch[side])
        dims = [n if k in needed else own.dims[k] for k, n in enumerate(shapes[side])]
        start = place(len(dims))
        arrays.append(full(own, dims).reshape((*dims[:start], -1, *dims[start:])))
        starts.append(start)

    def shifted(axes: Sequence[int], side: int) -> tuple[int, ...]:
        return tuple(k + (k >= starts[side]) for k in axes)

    summed_axes = [(starts[side], *shifted(contracted[side], side)) for side in (0, 1)]
    batch_axes = [shifted(batch[side], side) for side in (0, 1)]
    found = jax.lax.dot_general(
        *arrays,
        dimension_numbers=(
            (summed_axes[0], summed_axes[1]),
            (batch_axes[0], batch_axes[1]),
        ),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    return found if mask is None or mask.all() else jnp.where(mask, found, 0)


def _axes(side: int, contracted: Any, batch: Any, shapes: Any) -> tuple[list[int], list[int]]:
    """Axes of an operand in the order batch, free, contracted, and how many others are free."""
    free = [[k for k in range(len(shapes[j])) if k not in (*contracted[j], *batch[j])]
            for j in (0, 1)]  # fmt: skip
    return free[0], free[1]


def _joint(
    pair: Sequence[Directions], side: int, contracted: Any, batch: Any, shapes: Any
) -> list[Seen]:
    """What an operand sees, over the axes batch, left free, right free, contracted."""
    free = _axes(side, contracted, batch, shapes)
    found = []
    for seen in pair[side].seen:
        order = (*batch[side], *free[side], *contracted[side])
        moved = seen.transpose((*order, seen.ndim - 1))
        start, stop = len(batch[side]), len(batch[side]) + len(free[side])
        sizes = moved.shape[:-1]
        ones = (1,) * len(free[1 - side])
        own = (*sizes[start:stop], *ones) if side == 0 else (*ones, *sizes[start:stop])
        found.append(moved.reshape((*sizes[:start], *own, *sizes[stop:], moved.shape[-1])))
    return found


def _back(joint: Seen, side: int, contracted: Any, batch: Any, shapes: Any) -> Seen:
    """The same over the operand's own axes, where it does not depend on the other's."""
    free = _axes(side, contracted, batch, shapes)
    sizes = joint.shape
    start = len(batch[side])
    stop = start + len(free[0]) + len(free[1])
    own = (1,) * len(free[side])
    array = joint.reshape((*sizes[:start], *own, *sizes[stop:]))
    order = (*batch[side], *free[side], *contracted[side])
    return array.transpose((*np.argsort(order), array.ndim - 1))
