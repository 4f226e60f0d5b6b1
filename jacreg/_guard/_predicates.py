"""Along which axes the condition of a selection changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.extend.core as jex

from ._axes import UNIFORM, Clauses, changing, is_long, joined, met, moved

_SAME = frozenset({"convert_element_type", "copy"})


def clauses_of(atom: Any, made_by: Mapping[Any, Any], *, holds: bool) -> Clauses:
    """Those of the mask where a condition is true.

    Args:
        atom: the condition.
        made_by: the equation that makes an atom.
        holds: else where it is false.
    """
    if isinstance(atom, jex.Literal):
        return UNIFORM
    equation = made_by.get(atom)
    if equation is None:
        return changing(atom.aval.shape)
    name = equation.primitive.name
    if name == "not":
        return clauses_of(equation.invars[0], made_by, holds=not holds)
    if name in ("and", "or"):
        parts = [clauses_of(each, made_by, holds=holds) for each in equation.invars]
        return met(parts) if (name == "and") == holds else joined(parts)
    ways = _ways(equation)
    if ways is None:
        return changing(atom.aval.shape)
    return moved(clauses_of(equation.invars[0], made_by, holds=holds), ways)


def _ways(equation: Any) -> dict[int, int] | None:
    """Where a move of one operand puts its axes, None where it is none or merges some."""
    name, params = equation.primitive.name, equation.params
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if name in _SAME:
        return {axis: axis for axis in range(len(before))}
    if name == "broadcast_in_dim":
        return dict(enumerate(params["broadcast_dimensions"]))
    if name == "transpose":
        return {old: new for new, old in enumerate(params["permutation"])}
    if name in ("reshape", "squeeze", "expand_dims"):
        start, end = ([axis for axis, n in enumerate(s) if is_long(n)] for s in (before, after))
        if [before[axis] for axis in start] == [after[axis] for axis in end]:
            return dict(zip(start, end, strict=True))
    return None
