"""Reshape of a pattern: axes merge into joint relations and come apart again."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ._boolean import Boolean, kron, ones
from ._pattern import (
    _JOINT_ENTRIES,
    Factor,
    Pattern,
    join,
    joint_entries,
    merge_axisless,
    place_axes,
    reduce_axes,
    widen,
    with_axes,
    with_inputs,
)


def reshape(pattern: Pattern, new_shape: tuple[int, ...]) -> Pattern:
    """Pattern of `x.reshape(new_shape)`."""
    pattern = reduce_axes(pattern, [a for a, size in enumerate(pattern.shape) if size == 1])
    target = tuple(n for n in new_shape if n != 1)
    # Groups are found from the left, so axes before the one at work have their new place.
    position = 0
    for old, new in runs(pattern.shape, target):
        pattern = _regroup(pattern, position, old, new)
        position += len(new)
    long = [axis for axis, size in enumerate(new_shape) if size != 1]
    return place_axes(pattern, dict(enumerate(long)), new_shape)


def runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shortest runs of old and new axes with equal products, left to right."""
    if 0 in old or 0 in new:
        return [(tuple(old), tuple(new))]
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        left, right = old[i] if i < len(old) else 1, new[j] if j < len(new) else 1
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        groups.append((tuple(old[start_i:i]), tuple(new[start_j:j])))
    return groups


def _regroup(pattern: Pattern, start: int, old: tuple[int, ...], new: tuple[int, ...]) -> Pattern:
    """Replace the axes `start ...` of sizes `old` by axes of sizes `new`, row-major."""
    if old == new:
        return pattern
    axes = tuple(range(start, start + len(old)))
    shift = len(new) - len(old)
    shape = (*pattern.shape[:start], *new, *pattern.shape[start + len(old) :])

    def moved(axis: int) -> int:
        return axis + shift if axis >= start + len(old) else axis

    touched = [f for f in pattern.factors if set(f.axes) & set(axes)]
    kept = tuple(
        Factor(tuple(map(moved, f.axes)), f.inputs, f.matrix)
        for f in pattern.factors
        if not set(f.axes) & set(axes)
    )
    if not touched:
        return Pattern(shape, pattern.in_shape, kept)
    repeats = prod(
        size
        for axis, size in zip(axes, old, strict=True)
        if not any(axis in f.axes for f in touched)
    )
    if joint_entries(touched) * repeats > _JOINT_ENTRIES:
        for axis in axes:
            pattern = widen(pattern, axis, pattern.shape[axis])
        return _regroup(pattern, start, old, new)
    joined = join(touched)
    others = tuple(a for a in joined.axes if a not in axes)
    ordered = with_axes(pattern.shape, joined, (*axes, *others))
    new_axes = (*range(start, start + len(new)), *map(moved, others))
    factor = Factor(new_axes, ordered.inputs, ordered.matrix)
    result = Pattern(shape, pattern.in_shape, (*kept, factor))
    return merge_axisless(Pattern(shape, pattern.in_shape, (*kept, *_separate(result, factor))))


def _separate(pattern: Pattern, factor: Factor) -> list[Factor]:
    """Take a joint factor apart into independent ones where it is their product.

    The projections on single input axes always contain it; where their product has
    as many entries, it is their product.
    """
    parts = []
    for i in factor.inputs:
        projected = _project(pattern.in_shape, factor, i)
        parts.append(_without_idle_axes(pattern.shape, projected))
    if not factor.inputs:
        return [_without_idle_axes(pattern.shape, factor)]
    used = [a for part in parts for a in part.axes]
    if len(set(used)) < len(used):
        return [factor]
    rest = prod(pattern.shape[a] for a in factor.axes if a not in used)
    if prod(part.matrix.nnz for part in parts) * rest != factor.matrix.nnz:
        return [factor]
    return parts


def _project(in_shape: tuple[int, ...], factor: Factor, keep: int) -> Factor:
    if factor.inputs == (keep,):
        return factor
    others = tuple(i for i in factor.inputs if i != keep)
    ordered = with_inputs(in_shape, factor, (keep, *others))
    rest = prod(in_shape[i] for i in others)
    rows, columns = ordered.matrix.entries
    shape = (ordered.matrix.shape[0], in_shape[keep])
    return Factor(factor.axes, (keep,), Boolean.of_entries(rows, columns // max(rest, 1), shape))


def _without_idle_axes(shape: tuple[int, ...], factor: Factor) -> Factor:
    """Forget the axes along which the rows of a factor do not change."""
    for axis in factor.axes:
        others = tuple(a for a in factor.axes if a != axis)
        ordered = with_axes(shape, factor, (axis, *others))
        block = ordered.matrix.shape[0] // max(shape[axis], 1)
        first = ordered.matrix[:block]
        if kron(ones(shape[axis], 1), first) == ordered.matrix:
            factor = Factor(others, factor.inputs, first)
    return factor
