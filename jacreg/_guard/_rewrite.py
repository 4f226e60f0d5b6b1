"""A linear program with factors replaced, in its bodies too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from .._interpret import contains, mentions
from . import _branches, _loop
from ._body import Body, Shared
from ._branches import Branches
from ._conditions import Conditions
from ._flat import flattened
from ._loop import Loop
from ._values import Values


def with_finite_factors(linear: Any, tangents: Sequence[Any]) -> Any:
    """Return a closed linear program with such factors replaced, itself where there are none.

    Args:
        linear: the program.
        tangents: of the type of its arguments.
    """
    if not (mentions(linear.jaxpr, "select_n") and _multiplies(linear.jaxpr)):
        return linear
    flat = flattened(linear.jaxpr, linear.consts, tangents)
    ins, outs = len(flat.jaxpr.invars), len(flat.jaxpr.outvars)
    found = Conditions(flat.jaxpr, [True] * ins, None, [None] * ins, [None] * outs, _body_of)
    if found.needs is None:
        return linear
    known = dict(zip(flat.jaxpr.constvars, flat.consts, strict=True))
    values = Values(flat.jaxpr.eqns, found.linear, known)
    found.prepare(values)
    return jax.make_jaxpr(lambda *args: found.run(values, args))(*tangents)


def _multiplies(jaxpr: Any) -> bool:
    return mentions(jaxpr, "mul") or mentions(jaxpr, "div") or contains(jaxpr, _contracts)


def _contracts(equation: Any) -> bool:
    """Whether examples have matrices of their own, of which a condition may leave out some rows."""
    name = equation.primitive.name
    return name == "dot_general" and bool(equation.params["dimension_numbers"][1][0])


def _body_of(equation: Any, linear: Sequence[bool], shared: Shared) -> Body | None:
    name = equation.primitive.name
    if name in _loop.NAMES:
        return Loop(equation, linear, shared, _body_of)
    if name == "cond" and linear[0]:
        return None
    return Branches(equation, linear, shared, _body_of) if name in _branches.NAMES else None
