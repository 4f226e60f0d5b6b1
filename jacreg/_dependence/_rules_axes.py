"""Rules for operations that move, cut, repeat or join axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ._operand import Dependence, Equation, Operand, each, merge, rule
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
    (operand,) = equation.operands
    axes = equation.params["dimensions"]
    return [_picked(operand, {axis: np.arange(operand.shape[axis])[::-1] for axis in axes})]


def _picked(operand: Operand, picks: Mapping[int, np.ndarray]) -> Dependence:
    """Where entry i along an axis is entry `picks[axis][i]` of the operand."""

    def pick(pattern: Pattern) -> Pattern:
        for axis, index in picks.items():
            pattern = apply_axis(pattern, axis, selection(index, operand.shape[axis]))
        return pattern

    return each(operand.dependence, pick)


@rule("slice")
def _slice(equation: Equation) -> list[Dependence]:
    (operand,), params = equation.operands, equation.params
    strides = params["strides"] or (1,) * len(operand.shape)
    cuts = list(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
    whole = [(0, size, 1) for size in operand.shape]
    picks = {axis: np.arange(*cut) for axis, cut in enumerate(cuts) if cut != whole[axis]}
    return [_picked(operand, picks)]


@rule("split")
def _split(equation: Equation) -> list[Dependence]:
    (operand,), axis = equation.operands, equation.params["axis"]
    stops = np.cumsum(equation.params["sizes"])[:-1]
    parts = np.split(np.arange(operand.shape[axis]), stops)
    return [_picked(operand, {axis: index}) for index in parts]


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
    (operand,) = equation.operands
    sizes = enumerate(zip(equation.params["reps"], operand.shape, strict=True))
    picks = {a: np.arange(n * count) % max(n, 1) for a, (count, n) in sizes if count != 1}
    return [_picked(operand, picks)]
