"""Of which rows of a batch each value of a program is a function, an equation at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from ._dependence import Factor, Operand, Pattern, read_equation, structural_value, whole
from ._dependence._boolean import eye
from ._dependence._pattern import reduce_axes
from ._dependence._terms import united
from ._forms import form_of

_ARGUMENTS = {"argmax", "argmin"}


def as_operand(value: Any) -> Operand:
    """What depends on no row, where it is not told otherwise."""
    if isinstance(value, Operand):
        return value
    return Operand(tuple(np.shape(value)), value=structural_value(value))


def own_rows(shape: tuple[int, ...], count: int) -> Operand:
    """Of the batch itself: row n is a function of row n. The other axes do not matter here."""
    return Operand(shape, {0: (Pattern(shape, (count,), (Factor((0,), (0,), eye(count)),)),)})


def rows_seen(equation: Any, operands: list[Operand]) -> list[Operand]:
    """Of which rows each output is a function; jumps and integers too, without a derivative."""
    if not any(operand.dependence for operand in operands):
        return read_equation(equation, operands)
    if form_of(equation).degree != "zero":
        return read_equation(_Real(equation), operands)
    if equation.primitive.name not in _ARGUMENTS:
        return read_equation(_Real(equation, SimpleNamespace(name="add")), operands)
    terms = [p for operand in operands for leaf in operand.dependence.values() for p in leaf]
    terms = [reduce_axes(pattern, equation.params["axes"]) for pattern in terms]
    (out,) = equation.outvars
    return [Operand(tuple(out.aval.shape), {0: united(terms)} if terms else {})]


def row_factors(rows: Operand) -> list[Factor]:
    """The relation to the rows, at most one factor."""
    patterns = [pattern for terms in rows.dependence.values() for pattern in terms]
    return [f for f in whole(patterns).factors if 0 in f.inputs] if patterns else []


def one_row_each(rows: Operand) -> bool:
    """Whether each entry is a function of one row at most."""
    return all(np.max(factor.matrix.counts, initial=0) <= 1 for factor in row_factors(rows))


class _Real:
    """An equation whose outputs pass for real numbers: a reader leaves integers out."""

    def __init__(self, equation: Any, primitive: Any = None) -> None:
        self._equation = equation
        self.primitive = primitive or equation.primitive
        shapes = [getattr(v.aval, "shape", ()) for v in equation.outvars]
        self.outvars = [
            SimpleNamespace(aval=jax.ShapeDtypeStruct(shape, np.float32)) for shape in shapes
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._equation, name)
