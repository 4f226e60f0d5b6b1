"""Axes of one entry that come and go: a convolution of one example has a batch axis of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ._chain import Unreadable
from ._channels import repeated
from ._tangent import UNIT, Tangent


def reshape(equation: Any, operand: Tangent) -> Tangent:
    """Axes of one entry added or taken away."""
    if equation.primitive.name == "reshape" and equation.params["dimensions"] is not None:
        raise Unreadable("a reshape in another order")
    old, new = (each[0].aval.shape for each in (equation.invars, equation.outvars))
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        raise Unreadable("a reshape")
    roles = iter([role for role in operand.axes if role != UNIT])
    return replace(operand, axes=tuple(UNIT if n == 1 else next(roles) for n in new))


def broadcast_in_dim(equation: Any, operand: Tangent) -> Tangent:
    """Axes of one entry in between; what repeats an entry is no layer."""
    places = equation.params["broadcast_dimensions"]
    if list(places) != sorted(places):
        raise Unreadable("a broadcast in another order")
    found = repeated(equation, operand)
    return found if found is not None else reshape(equation, operand)


def reduce_sum(equation: Any, operand: Tangent) -> Tangent:
    """Over axes of one entry: what `broadcast_in_dim` is on the way back."""
    shape = equation.invars[0].aval.shape
    if any(shape[axis] != 1 for axis in equation.params["axes"]):
        raise Unreadable("a sum over an axis")
    return reshape(equation, operand)
