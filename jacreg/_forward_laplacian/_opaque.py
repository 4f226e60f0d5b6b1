"""Operations of which only JAX's derivative rule is known: nested jvp, one direction at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._interpret import bind
from ._carried import Carried, Order, Refusal, seen_of, value_of
from ._colors import shared
from ._directions import Directions, spread, sum_slots
from ._linear import carried_outputs
from ._push import each_slot
from ._seen import reach

if TYPE_CHECKING:
    from jaxtyping import Array


def opaque(equation: Any, operands: Sequence[Any], order: Order) -> list[Any]:
    """Carry an operation by its second derivative along each direction.

    Args:
        equation: any that forward mode goes through.
        operands: some of them carried.
        order: what is carried of second derivatives.
    """
    values = [value_of(operand) for operand in operands]
    outs = bind(equation, values)
    places = [place for place, each in enumerate(operands) if isinstance(each, Carried)]
    at = [values[place] for place in places]
    inexact = [jnp.issubdtype(out.dtype, jnp.inexact) for out in outs]
    seen = reach(equation, list(map(seen_of, operands)), values)
    num_axes = len(seen[0])
    colors = shared(seen, [operands[place].tangent().colors for place in places])

    def call(*points: Array) -> list[Array]:
        here = dict(zip(places, points, strict=True))
        found = bind(equation, [here.get(k, v) for k, v in enumerate(values)])
        return [out for out, real in zip(found, inexact, strict=True) if real]

    def first(*tangents: Array) -> list[Array]:
        return jax.jvp(call, at, list(tangents))[1]

    def second(*tangents: Array) -> list[Array]:
        def along(*points: Array) -> list[Array]:
            return jax.jvp(call, list(points), list(tangents))[1]

        return jax.jvp(along, at, list(tangents))[1]

    ranks = [out.ndim for out, real in zip(outs, inexact, strict=True) if real]
    kept = [own for own, real in zip(seen, inexact, strict=True) if real]

    def directions(arrays: Sequence[Array]) -> list[Directions]:
        return [Directions(a, colors, own) for a, own in zip(arrays, kept, strict=True)]

    def along_each(derivative: Callable[..., list[Array]], arrays: Sequence[Array]) -> list[Array]:
        try:
            return each_slot(derivative, num_axes, ranks, *arrays)
        except NotImplementedError as error:
            why = f"has no rule for several directions at once ({error})"
            raise Refusal(equation, why) from error

    def own_tangents() -> list[Directions]:
        return [operands[place].tangent() for place in places]

    def tangents() -> list[Directions]:
        return directions(along_each(first, spread(own_tangents(), at, colors)))

    def seconds() -> list[Any]:
        curved = along_each(second, spread(own_tangents(), at, colors))
        own = [operands[place].second() for place in places]
        if order.keep:
            found = directions(curved)
            if all(term is None for term in own):
                return found
            linear = directions(along_each(first, spread(own, at, colors)))
            return [order.total(pair) for pair in zip(found, linear, strict=True)]
        sums = [sum_slots(array, num_axes) for array in curved]
        if all(term is None for term in own):
            return sums
        terms = [jnp.zeros_like(point) if term is None else jnp.broadcast_to(term, point.shape)
                 for term, point in zip(own, at, strict=True)]  # fmt: skip
        return [a + b for a, b in zip(sums, first(*terms), strict=True)]

    return carried_outputs(outs, inexact, seen, tangents, seconds)
