"""A scan whose carries bring their derivatives along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._interpret import scan_counts, scan_like
from ._carried import Carried, Order, value_of
from ._colors import color, num_colors
from ._directions import Directions, full, place, recolor, restricted, with_slots
from ._seen import Sight, settled_loop, with_first, without_first

if TYPE_CHECKING:
    from jaxtyping import Array

Run = Callable[[Any, Sequence[Any], Sequence[Any]], list[Any]]


class _Layout:
    """How one carried array stands in the loop: which slots, and the second-order term."""

    def __init__(self, seen: Any, struct: Any, order: Order) -> None:
        self.seen, self.order = seen, order
        self.colors = tuple(map(color, seen))
        self.shape, self.dtype = tuple(struct.shape), struct.dtype

    def pack(self, operand: Any) -> tuple[Array, Array, Array]:
        """Value, tangents and second-order term as arrays of full shape."""
        slots = tuple(map(num_colors, self.colors))
        zeros = jnp.zeros(with_slots(self.shape, slots), self.dtype)
        if not isinstance(operand, Carried):
            second = zeros if self.order.keep else jnp.zeros(self.shape, self.dtype)
            return jnp.asarray(operand, self.dtype), zeros, second
        tangent = self._full(operand.tangent())
        term = operand.second()
        if self.order.keep:
            second = zeros if term is None else self._full(term)
        elif term is None:
            second = jnp.zeros(self.shape, self.dtype)
        else:
            second = jnp.broadcast_to(term, self.shape).astype(self.dtype)
        return operand.value, tangent, second

    def _full(self, directions: Directions) -> Array:
        seen = restricted(directions, self.seen)
        return full(recolor(directions, self.colors, seen), self.shape).astype(self.dtype)

    def unpack(self, arrays: Sequence[Array]) -> Carried:
        """The carried array again."""
        value, tangent, second = arrays

        def directions(array: Array) -> Directions:
            return Directions(array, self.colors, self.seen)

        term = directions(second) if self.order.keep else second
        return Carried(value, self.seen, lambda: directions(tangent), lambda: term)

    def stacked(self, arrays: Sequence[Array]) -> Carried:
        """Carry what a loop collected, `[length, ...]` each."""
        value, tangent, second = arrays
        seen = with_first(self.seen)

        def directions(array: Array) -> Directions:
            return Directions(self._swapped(array), self.colors, seen)

        term = directions(second) if self.order.keep else second
        return Carried(value, seen, lambda: directions(tangent), lambda: term)

    def _swapped(self, array: Array) -> Array:
        """`[length, d0, *slots, *rest]` as `[length, *slots, d0, *rest]`."""
        start, count = 1 + place(len(self.shape)), len(self.colors)
        return jnp.moveaxis(array, range(start, start + count), range(1, 1 + count))

    def _back(self, array: Array) -> Array:
        start, count = 1 + place(len(self.shape)), len(self.colors)
        return jnp.moveaxis(array, range(1, 1 + count), range(start, start + count))

    def slices(self, operand: Carried) -> tuple[Array, Array, Array]:
        """What a loop takes apart: arrays with the loop's axis first."""
        whole = _Layout(
            tuple(np.expand_dims(each, 0) for each in self.seen),
            jax.ShapeDtypeStruct((operand.value.shape[0], *self.shape), self.dtype),
            self.order,
        )
        value, tangent, second = whole.pack(operand)
        return value, self._back(tangent), self._back(second) if self.order.keep else second


def loop(equation: Any, operands: Sequence[Any], order: Order, run: Run) -> list[Any]:
    """Carry a scan, its body carried as any other program."""
    params = equation.params
    body, (start, count) = params["jaxpr"], scan_counts(equation)
    stop = start + count
    avals = body.in_avals

    def sight(operand: Any, sliced: bool) -> Sight:
        if not isinstance(operand, Carried):
            return None
        return without_first(operand.seen) if sliced else operand.seen

    given = [sight(each, number >= stop) for number, each in enumerate(operands)]
    carry_seen, outs_seen = settled_loop(body, given, start, stop)
    structs = [*avals[start:stop], *body.out_avals[count:]]
    layouts = [
        None if seen is None else _Layout(seen, struct, order)
        for seen, struct in zip([*carry_seen, *outs_seen], structs, strict=True)
    ]
    carries, collected = layouts[: stop - start], layouts[stop - start :]
    for operand in operands[:start]:
        if isinstance(operand, Carried):
            # Outside the loop, for all steps.
            operand.tangent()
            operand.second()
    inputs = [
        None if given[number] is None else _Layout(given[number], avals[number], order)
        for number in range(stop, len(operands))
    ]

    def pack(layout: _Layout | None, operand: Any) -> Any:
        # What sees nothing may have been computed of what does: times a zero that is known.
        return value_of(operand) if layout is None else layout.pack(operand)

    def unpack(layout: _Layout | None, arrays: Any) -> Any:
        return arrays if layout is None else layout.unpack(arrays)

    def step(carry: Any, slices: Any) -> Any:
        own = [*map(unpack, carries, carry), *map(unpack, inputs, slices)]
        outs = run(body, [], [*operands[:start], *own])
        return list(map(pack, carries, outs[:count])), list(map(pack, collected, outs[count:]))

    first = list(map(pack, carries, operands[start:stop]))
    slices = [each if layout is None else layout.slices(each)
              for layout, each in zip(inputs, operands[stop:], strict=True)]  # fmt: skip
    last, stacks = scan_like(equation, step, first, slices, reverse=params["reverse"])
    found = list(map(unpack, carries, last))
    found += [each if layout is None else layout.stacked(each)
              for layout, each in zip(collected, stacks, strict=True)]  # fmt: skip
    return found
