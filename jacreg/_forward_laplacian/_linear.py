"""Linear operations: the same operation on every direction and on the second-order term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._forms import Form
from .._interpret import bind
from ._carried import Carried, Order, at_rank, seen_of, value_of
from ._colors import Seen, shared
from ._directions import Directions, spread
from ._push import OneOperand, each_slot, push
from ._seen import reach

if TYPE_CHECKING:
    from jaxtyping import Array


def linear(equation: Any, form: Form, operands: Sequence[Any], order: Order) -> list[Any]:
    """Carry an operation that is linear in its data, or is so where no choice changes."""
    values = [value_of(operand) for operand in operands]
    outs = bind(equation, values)
    places = [
        number
        for number, each in enumerate(operands)
        if isinstance(each, Carried) and form.differentiates(number)
    ]
    if not places:
        return outs
    needed = order.needed(equation)
    equation = _of_change(equation)
    inexact = [jnp.issubdtype(out.dtype, jnp.inexact) for out in outs]

    def apply_all(*arrays: Array) -> list[Array]:
        """The outputs' change with that of the operands at `places`, each of full shape."""
        changed = dict(zip(places, arrays, strict=True))
        if form.degree != "piecewise":
            whole = [
                changed.get(k, jnp.zeros_like(v) if form.differentiates(k) else v)
                for k, v in enumerate(values)
            ]
            return bind(equation, whole)

        def call(*at: Array) -> list[Array]:
            here = dict(zip(places, at, strict=True))
            return bind(equation, [here.get(k, v) for k, v in enumerate(values)])

        return jax.jvp(call, [values[place] for place in places], list(arrays))[1]

    if len(places) == 1 and form.degree != "piecewise":
        apply: Any = OneOperand(equation, places[0], [
            jnp.zeros_like(v) if form.differentiates(k) else v for k, v in enumerate(values)
        ])  # fmt: skip
    else:
        apply = None
    seen = reach(equation, list(map(seen_of, operands)), values)

    def tangents(given: Callable[[Carried], Any]) -> list[Directions] | None:
        parts = [given(operands[place]) for place in places]
        if all(part is None for part in parts):
            return None
        if apply is not None:
            return push(equation, places[0], parts[0], apply, needed)
        known = [part for part in parts if part is not None]
        colors = shared(seen, [part.colors for part in known])
        arrays = spread(parts, [values[place] for place in places], colors)
        ranks = _inexact([out.ndim for out in outs], inexact)
        found = each_slot(
            lambda *each: _inexact(apply_all(*each), inexact), len(colors), ranks, *arrays
        )
        return [Directions(out, colors, own)
                for out, own in zip(found, _inexact(seen, inexact), strict=True)]  # fmt: skip

    def seconds() -> list[Any] | None:
        if order.keep:
            return tangents(lambda each: each.second())
        parts = [operands[place].second() for place in places]
        if all(part is None for part in parts):
            return None
        if apply is not None:
            return apply(at_rank(parts[0], values[places[0]].ndim))
        shapes = [values[place].shape for place in places]
        arrays = [
            jnp.zeros(shape, values[place].dtype) if part is None else jnp.broadcast_to(part, shape)
            for place, part, shape in zip(places, parts, shapes, strict=True)
        ]
        return _inexact(apply_all(*arrays), inexact)

    def throughs() -> list[Any] | None:
        masks = [operands[place].through() for place in places]
        counted = order.conditions and form.degree == "linear" and equation.primitive.name != "fft"
        if not counted or any(mask is None for mask in masks):
            return None
        counts = [
            jnp.broadcast_to(mask, values[place].shape).astype(values[place].dtype)
            for mask, place in zip(masks, places, strict=True)
        ]
        return [count > 0 for count in _inexact(apply_all(*counts), inexact)]

    return carried_outputs(
        outs, inexact, seen, lambda: tangents(lambda each: each.tangent()), seconds, throughs
    )


def _of_change(equation: Any) -> Any:
    """The linear part: a gather fills in a number where it finds nothing, its change is zero."""
    if "fill_value" not in equation.params:
        return equation
    return equation.replace(params={**equation.params, "fill_value": 0})


def carried_outputs(
    outs: Sequence[Array],
    inexact: Sequence[bool],
    seen: Sequence[tuple[Seen, ...]],
    tangents: Callable[[], Any],
    seconds: Callable[[], Any],
    throughs: Callable[[], Any] = lambda: None,
) -> list[Any]:
    """Outputs whose derivatives are computed together, at the first use of one."""
    known: dict[str, Any] = {}

    def once(name: str, compute: Callable[[], Any], place: int) -> Any:
        if name not in known:
            known[name] = compute()
        return None if known[name] is None else known[name][place]

    found, place = [], 0
    for out, real, own in zip(outs, inexact, seen, strict=True):
        if not real:
            found.append(out)
            continue
        found.append(
            Carried(
                out,
                own,
                lambda place=place: once("tangents", tangents, place),
                lambda place=place: once("seconds", seconds, place),
                lambda place=place: once("throughs", throughs, place),
            )
        )
        place += 1
    return found


def _inexact(items: Sequence[Any], inexact: Sequence[bool]) -> list[Any]:
    return [item for item, real in zip(items, inexact, strict=True) if real]
