"""Rules for operations that move, cut, repeat or join axes."""

from __future__ import annotations

import numpy as np

from ._operand import Dependence, Equation, each, merge, rule
from ._pattern import Factor, Pattern, apply_axis, insert_axis, reduce_axis, transpose
from ._reshape import reshape
from ._windows import placement, selection


@rule("transpose")
def _transpose(equation: Equation) -> list[Dependence]:
    order = equation.params["permutation"]
    return [each(equation.operands[0].dependence, lambda p: transpose(p, order))]


@rule("reshape")
def _reshape(equation: Equation) -> list[Dependence]:
    shape = equation.shapes[0]
    dimensions = equation.params.get("dimensions")

    def change(pattern: Pattern) -> Pattern:
        if dimensions is not None:
            pattern = transpose(pattern, dimensions)
        return reshape(pattern, shape)

    return [each(equation.operands[0].dependence, change)]


@rule("squeeze")
def _squeeze(equation: Equation) -> list[Dependence]:
    return [each(equation.operands[0].dependence, without(equation.params["dimensions"]))]


def without(axes: tuple[int, ...]):
    """Operation that reduces several axes away."""

    def reduce(pattern: Pattern) -> Pattern:
        for axis in sorted((a % len(pattern.shape) for a in axes), reverse=True):
            pattern = reduce_axis(pattern, axis)
        return pattern

    return reduce


@rule("broadcast_in_dim")
def _broadcast(equation: Equation) -> list[Dependence]:
    shape = equation.shapes[0]
    targets = equation.params["broadcast_dimensions"]

    def broadcast(pattern: Pattern) -> Pattern:
        for axis, target in enumerate(targets):
            if pattern.shape[axis] == 1 and shape[target] != 1:
                pattern = insert_axis(reduce_axis(pattern, axis), axis, 1)
        factors = [
            Factor(tuple(targets[a] for a in f.axes), f.inputs, f.matrix) for f in pattern.factors
        ]
        return Pattern(shape, pattern.in_shape, tuple(factors))

    return [each(equation.operands[0].dependence, broadcast)]


@rule("rev")
def _reverse(equation: Equation) -> list[Dependence]:
    def reverse(pattern: Pattern) -> Pattern:
        for axis in equation.params["dimensions"]:
            size = pattern.shape[axis]
            pattern = apply_axis(pattern, axis, selection(np.arange(size)[::-1], size))
        return pattern

    return [each(equation.operands[0].dependence, reverse)]


@rule("slice")
def _slice(equation: Equation) -> list[Dependence]:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)

    def cut(pattern: Pattern) -> Pattern:
        for axis, (start, limit, stride) in enumerate(zip(starts, limits, strides, strict=True)):
            size = pattern.shape[axis]
            if (start, limit, stride) != (0, size, 1):
                index = np.arange(start, limit, stride)
                pattern = apply_axis(pattern, axis, selection(index, size))
        return pattern

    return [each(equation.operands[0].dependence, cut)]


@rule("split")
def _split(equation: Equation) -> list[Dependence]:
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    (operand,) = equation.operands
    parts, start = [], 0
    for size in sizes:
        index = selection(np.arange(start, start + size), operand.shape[axis])
        parts.append(each(operand.dependence, lambda p, index=index: apply_axis(p, axis, index)))
        start += size
    return parts


@rule("pad")
def _pad(equation: Equation) -> list[Dependence]:
    shape = equation.shapes[0]
    operand, filler = equation.operands

    def pad(pattern: Pattern) -> Pattern:
        for axis, (low, high, interior) in enumerate(equation.params["padding_config"]):
            if (low, high, interior) != (0, 0, 0):
                index = low + np.arange(pattern.shape[axis]) * (interior + 1)
                pattern = apply_axis(pattern, axis, placement(index, shape[axis]))
        return pattern

    def fill(pattern: Pattern) -> Pattern:
        for axis, size in enumerate(shape):
            pattern = insert_axis(pattern, axis, size)
        return pattern

    return [merge(each(operand.dependence, pad), each(filler.dependence, fill))]


@rule("concatenate")
def _concatenate(equation: Equation) -> list[Dependence]:
    axis = equation.params["dimension"]
    size = equation.shapes[0][axis]
    parts, start = [], 0
    for operand in equation.operands:
        index = placement(np.arange(start, start + operand.shape[axis]), size)
        parts.append(each(operand.dependence, lambda p, index=index: apply_axis(p, axis, index)))
        start += operand.shape[axis]
    return [merge(*parts)]


@rule("stack")
def _stack(equation: Equation) -> list[Dependence]:
    axis, count = equation.params["axis"], len(equation.operands)
    parts = []
    for number, operand in enumerate(equation.operands):
        place = placement(np.array([number]), count)
        parts.append(
            each(
                operand.dependence,
                lambda p, place=place: apply_axis(insert_axis(p, axis, 1), axis, place),
            )
        )
    return [merge(*parts)]


@rule("unstack")
def _unstack(equation: Equation) -> list[Dependence]:
    (operand,), axis = equation.operands, equation.params["axis"]
    count = operand.shape[axis]
    picks = (selection(np.array([number]), count) for number in range(count))
    return [
        each(
            operand.dependence,
            lambda p, pick=pick: reduce_axis(apply_axis(p, axis, pick), axis),
        )
        for pick in picks
    ]


@rule("tile")
def _tile(equation: Equation) -> list[Dependence]:
    repeats = equation.params["reps"]

    def tile(pattern: Pattern) -> Pattern:
        for axis, count in enumerate(repeats):
            size = pattern.shape[axis]
            if count != 1:
                index = np.arange(size * count) % max(size, 1)
                pattern = apply_axis(pattern, axis, selection(index, size))
        return pattern

    return [each(equation.operands[0].dependence, tile)]
