"""Rules for operations that move, cut, repeat or join axes."""

from __future__ import annotations

import numpy as np

from ._operand import Dependence, Equation, each, merge, rule
from ._pattern import (
    Pattern,
    apply_axis,
    insert_axis,
    place_axes,
    reduce_axes,
    reduce_axis,
    transpose,
)
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
    axes = equation.params["dimensions"]
    return [each(equation.operands[0].dependence, lambda p: reduce_axes(p, axes))]


@rule("broadcast_in_dim")
def _broadcast(equation: Equation) -> list[Dependence]:
    shape = equation.shapes[0]
    targets = equation.params["broadcast_dimensions"]

    def broadcast(pattern: Pattern) -> Pattern:
        # An axis of one entry that is repeated is a new one.
        kept = {a: t for a, t in enumerate(targets) if pattern.shape[a] == shape[t]}
        return place_axes(pattern, kept, shape)

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

    fill = each(filler.dependence, lambda pattern: place_axes(pattern, {}, shape))
    return [merge(each(operand.dependence, pad), fill)]


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
