"""What the outputs of a program see of x, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._forms import form_of
from .._forms._form import Seen
from .._interpret import interpret
from ._colors import union
from ._push import reach

Sight = tuple[Seen, ...] | None


def inner_program(equation: Any) -> Any:
    """The program of a call."""
    params = equation.params
    return params["call_jaxpr"] if "call_jaxpr" in params else params["jaxpr"]


def seen_by(program: Any, given: Sequence[Sight]) -> list[Sight]:
    """What each output sees, from what each input does; None where nothing is seen.

    Args:
        program: a jaxpr, closed or not.
        given: for each input.
    """
    jaxpr = getattr(program, "jaxpr", program)
    outs = interpret(jaxpr, [None] * len(jaxpr.constvars), list(given), _apply)
    return [out if isinstance(out, tuple) else None for out in outs]


def _apply(equation: Any, operands: list[Any]) -> list[Sight]:
    form = form_of(equation)
    operands = [each if isinstance(each, tuple) else None for each in operands]
    if all(each is None for each in operands) or form.degree == "zero":
        return [None] * len(equation.outvars)
    if form.kind == "call":
        found = seen_by(inner_program(equation), operands)
    elif equation.primitive.name == "scan":
        params = equation.params
        steps = params["num_consts"], params["num_consts"] + params["num_carry"]
        body = [
            each if each is None or place < steps[1] else without_first(each)
            for place, each in enumerate(operands)
        ]
        carry, found = settled_loop(params["jaxpr"], body, *steps)
        found = [*carry, *(None if each is None else with_first(each) for each in found)]
    else:
        parts = [
            reach(equation, form, place, each)
            for place, each in enumerate(operands)
            if each is not None and form.differentiates(place)
        ]
        if not parts:
            return [None] * len(equation.outvars)
        found = [union(outputs) for outputs in zip(*parts, strict=True)]
    return [
        each if jnp.issubdtype(out.aval.dtype, jnp.inexact) else None
        for each, out in zip(found, equation.outvars, strict=True)
    ]


def settled_loop(
    body: Any, given: Sequence[Sight], start: int, stop: int
) -> tuple[list[Sight], list[Sight]]:
    """What the carries `given[start:stop]` see after any number of steps, and each step's outputs.

    Args:
        body: the loop's program, `(consts, carries, slices) -> (carries, outputs)`.
        given: what its inputs see at first.
        start, stop: which of them are carries.
    """
    carry = list(given[start:stop])
    while True:
        outs = seen_by(body, [*given[:start], *carry, *given[stop:]])
        after = [_either(a, b) for a, b in zip(carry, outs, strict=False)]
        if all(_same(a, b) for a, b in zip(carry, after, strict=True)):
            return carry, outs[len(carry) :]
        carry = after


def _either(first: Sight, second: Sight) -> Sight:
    known = [each for each in (first, second) if each is not None]
    return union(known) if known else None


def _same(first: Sight, second: Sight) -> bool:
    if first is None or second is None:
        return first is second
    return all(a.shape == b.shape and bool((a == b).all())
               for a, b in zip(first, second, strict=True))  # fmt: skip


def without_first(seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """What the slices along the first axis see, all together."""
    return tuple(each.any(axis=0) for each in seen)


def with_first(seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """The same for arrays stacked along a new first axis."""
    return tuple(np.expand_dims(each, 0) for each in seen)


def is_entrywise(program: Any, shape: tuple[int, ...]) -> bool:
    """Whether a program is elementwise: every array in it has the one shape, or is a scalar."""
    jaxpr = getattr(program, "jaxpr", program)
    atoms = [*jaxpr.invars, *(out for equation in jaxpr.eqns for out in equation.outvars)]
    return all(atom.aval.shape in (shape, ()) for atom in atoms) and all(
        _is_entrywise(equation, shape) for equation in jaxpr.eqns
    )


def _is_entrywise(equation: Any, shape: tuple[int, ...]) -> bool:
    kind, name = form_of(equation).kind, equation.primitive.name
    if kind == "call":
        return is_entrywise(inner_program(equation), shape)
    if kind == "constant":
        return name not in ("argmax", "argmin", "iota")
    from_scalar = name == "broadcast_in_dim" and equation.invars[0].aval.shape == ()
    return kind == "elementwise" or from_scalar
