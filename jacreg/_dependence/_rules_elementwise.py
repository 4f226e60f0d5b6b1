"""Rules for operations that act entry by entry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._forms import SIDE_BY_SIDE, fits
from ._boolean import Boolean
from ._operand import Dependence, Equation, Operand, each, everything, merge, rule
from ._pattern import Pattern, apply_axis, place_axes


def _spread(operand: Operand, shape: tuple[int, ...]) -> Dependence:
    """Operands of entrywise operations may be scalars or have axes of length one."""
    if operand.shape == shape:
        return operand.dependence

    def grow(pattern: Pattern) -> Pattern:
        missing = len(shape) - len(pattern.shape)
        own = {axis: axis + missing for axis in range(len(pattern.shape))}
        kept = {a: t for a, t in own.items() if pattern.shape[a] == shape[t]}
        return place_axes(pattern, kept, shape)

    return each(operand.dependence, grow)


# Every other elementwise primitive has this rule too (`rule_of`).
@rule("add")
def _entrywise(equation: Equation) -> list[Dependence]:
    found = []
    for number, shape in enumerate(equation.shapes):
        if all(fits(operand.shape, shape) for operand in equation.operands):
            found.append(merge(*(_spread(operand, shape) for operand in equation.operands)))
        else:  # a row that is not true of this output
            found.append(everything(equation, why=equation.name)[number])
    return found


@rule(*SIDE_BY_SIDE)
def _side_by_side(equation: Equation) -> list[Dependence]:
    return [operand.dependence for operand in equation.operands]


@rule("mul", "div")
def _scaled(equation: Equation) -> list[Dependence]:
    shape = equation.shapes[0]
    left, right = equation.operands
    parts = []
    for tangent, factor in ((left, right), (right, left)):
        dependence = _spread(tangent, shape)
        # Structural zeros (a mask made from iota) cut edges; x / 0 does not.
        if factor.value is not None and (equation.name == "mul" or factor is left):
            dependence = each(dependence, _masked(factor.value != 0, shape))
        parts.append(dependence)
    return [merge(*parts)]


@rule("select_n")
def _select(equation: Equation) -> list[Dependence]:
    shape = equation.shapes[0]
    which, *cases = equation.operands
    parts = []
    for number, case in enumerate(cases):
        dependence = _spread(case, shape)
        if which.value is not None:
            dependence = each(dependence, _masked(which.value.astype(int) == number, shape))
        parts.append(dependence)
    return [merge(*parts)]


def _masked(mask: np.ndarray, shape: tuple[int, ...]) -> Callable[[Pattern], Pattern]:
    """Cut the entries where a structural mask is false, as far as one axis describes it."""
    mask = np.broadcast_to(mask, shape)
    varying = [
        axis for axis in range(mask.ndim)
        if mask.shape[axis] and (mask != mask.take([0], axis=axis)).any()
    ]  # fmt: skip

    def cut(pattern: Pattern) -> Pattern:
        if mask.size and not varying and not mask.flat[0]:
            for axis, size in enumerate(shape):
                pattern = apply_axis(pattern, axis, Boolean.of_entries([], [], (size, size)))
            return pattern
        if len(varying) == 1:
            (axis,) = varying
            line = mask[tuple(slice(None) if a == axis else 0 for a in range(mask.ndim))]
            kept = np.flatnonzero(line)
            return apply_axis(pattern, axis, Boolean.of_entries(kept, kept, (line.size, line.size)))
        return pattern

    return cut
