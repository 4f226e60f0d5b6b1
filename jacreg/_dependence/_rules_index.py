"""Rules for gather, scatter and dynamic slices.

Where the indices follow from the program, the entries that are read are worked out
one by one and split into independent choices, of one axis where that is possible.
Where they depend on values (argmax, sort), any entry of the indexed axes may be read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._operand import Dependence, Equation, Operand, each, merge, rule
from ._pattern import Pattern, apply_axis, place_axes, transpose, widen
from ._reshape import reshape
from ._windows import placement, selection

# Working out more positions than this one by one is not worth its memory.
_MOST_POSITIONS = 20_000_000


@rule("dynamic_slice")
def _dynamic_slice(equation: Equation) -> list[Dependence]:
    operand, *starts = equation.operands
    sizes = equation.params["slice_sizes"]

    def cut(pattern: Pattern) -> Pattern:
        for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            full = pattern.shape[axis]
            if size == full:
                continue
            if start.value is None:
                pattern = widen(pattern, axis, size)
            else:
                first = int(np.clip(start.value, 0, full - size))
                pattern = apply_axis(pattern, axis, selection(np.arange(first, first + size), full))
        return pattern

    return [each(operand.dependence, cut)]


@rule("dynamic_update_slice")
def _dynamic_update_slice(equation: Equation) -> list[Dependence]:
    operand, update, *starts = equation.operands
    shape = equation.shapes[0]

    def place(pattern: Pattern) -> Pattern:
        for axis, start in enumerate(starts):
            size, full = pattern.shape[axis], shape[axis]
            if size == full:
                continue
            if start.value is None:
                pattern = widen(pattern, axis, full)
            else:
                first = int(np.clip(start.value, 0, full - size))
                index = np.arange(first, first + size)
                pattern = apply_axis(pattern, axis, placement(index, full))
        return pattern

    return [merge(operand.dependence, each(update.dependence, place))]


@rule("gather")
def _gather(equation: Equation) -> list[Dependence]:
    operand, indices = equation.operands
    shape = equation.shapes[0]
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    mode = equation.params["mode"]
    choices = _choices_of(operand.shape, indices, numbers, tuple(sizes), mode, shape)
    if choices is not None:
        return [each(operand.dependence, lambda p: _chosen(p, choices, shape))]
    return [each(operand.dependence, lambda p: _anywhere(p, numbers, sizes, shape))]


@rule("scatter", "scatter-add", "scatter_add", "scatter-sub", "scatter-mul")
def _scatter(equation: Equation) -> list[Dependence]:
    operand, indices, updates = equation.operands
    numbers = equation.params["dimension_numbers"]
    shape = equation.shapes[0]
    gather_numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    sizes = _slice_sizes(numbers, updates.shape, len(shape))
    mode = equation.params["mode"]
    choices = _choices_of(shape, indices, gather_numbers, tuple(sizes), mode, updates.shape)

    def place(pattern: Pattern) -> Pattern:
        if choices is None:
            return _anywhere_into(pattern, gather_numbers, sizes, shape)
        return _placed(pattern, choices, shape)

    return [merge(operand.dependence, each(updates.dependence, place))]


class _Choice(NamedTuple):
    """Source axes that are chosen along together, by an index over axes of the result.

    Attributes:
        sources: axes of the source.
        results: axes of the result that the index depends on; no other choice has them.
        line: for each place along `results` the place along `sources`, row-major; -1 for none.
    """

    sources: tuple[int, ...]
    results: tuple[int, ...]
    line: np.ndarray


def _choices_of(
    shape: tuple[int, ...],
    indices: Operand,
    numbers: Any,
    sizes: tuple[int, ...],
    mode: Any,
    out_shape: tuple[int, ...],
) -> list[_Choice] | None:
    """The independent choices of a gather from `shape`; None where they are unknown or too many.

    An axis that is taken whole, and that no index moves along, is not worked out entry by entry.
    """
    if not shape or indices.value is None or 0 in out_shape:
        return None
    offsets, _ = _layout(numbers, len(shape), len(out_shape))
    whole = {
        axis: out for axis, out in offsets.items()
        if sizes[axis] == shape[axis] and axis not in numbers.start_index_map
    }  # fmt: skip
    small, window = _ones_at(whole, shape), _ones_at(whole, sizes)
    if max(prod(small), prod(_ones_at(whole.values(), out_shape))) > _MOST_POSITIONS:
        return None
    # The flat position that each gathered entry comes from, -1 for none.
    with jax.ensure_compile_time_eval():
        read = jax.lax.gather(
            jnp.arange(prod(small), dtype=jnp.int32).reshape(small),
            jnp.asarray(indices.value),
            numbers,
            window,
            mode=mode,
            fill_value=-1,
        )
    axes = [axis for axis in range(len(shape)) if axis not in whole]
    found = _choices(np.asarray(read), small, axes)
    return found + [_Choice((a,), (out,), np.arange(shape[a])) for a, out in whole.items()]


def _ones_at(axes: Collection[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def _choices(read: np.ndarray, shape: tuple[int, ...], axes: Sequence[int]) -> list[_Choice]:
    """Take an index of these axes apart into choices that are independent of each other."""

    def varies(values: np.ndarray) -> set[int]:
        return {
            axis for axis in range(read.ndim)
            if read.shape[axis] and (values != values.take([0], axis=axis)).any()
        }  # fmt: skip

    missing = read < 0
    coordinates = np.unravel_index(np.maximum(read, 0), shape)
    groups: list[tuple[list[int], set[int]]] = []
    # What is missing goes with the first choice that it meets.
    parts = [([axis], varies(coordinates[axis])) for axis in axes]
    for sources, results in [*parts, ([], varies(missing))] if missing.any() else parts:
        met = [group for group in groups if group[1] & results]
        met = met or groups[:1] if not sources else met
        for other in met:
            sources, results = other[0] + sources, results | other[1]
        groups = [group for group in groups if not any(group is other for other in met)]
        groups.append((sources, results))
    found = []
    for sources, results in sorted(groups):
        at = tuple(slice(None) if axis in results else 0 for axis in range(read.ndim))
        sizes = [shape[axis] for axis in sources]
        line = np.ravel_multi_index([coordinates[axis][at] for axis in sources], sizes)
        line = np.where(missing[at], -1, line)
        found.append(_Choice(tuple(sources), tuple(sorted(results)), line.reshape(-1)))
    return found


def _chosen(pattern: Pattern, choices: list[_Choice], shape: tuple[int, ...]) -> Pattern:
    """Pattern of a gather."""
    before = pattern.shape
    pattern = transpose(pattern, [axis for each in choices for axis in each.sources])
    pattern = reshape(pattern, tuple(prod(before[a] for a in each.sources) for each in choices))
    for axis, choice in enumerate(choices):
        pattern = apply_axis(pattern, axis, selection(choice.line, pattern.shape[axis]))
    # Each choice now has the product of its result axes; split, then order.
    placed = [axis for each in choices for axis in each.results]
    pattern = reshape(pattern, tuple(shape[axis] for axis in placed))
    return place_axes(pattern, dict(enumerate(placed)), shape)


def _placed(pattern: Pattern, choices: list[_Choice], shape: tuple[int, ...]) -> Pattern:
    """Pattern of a scatter: the transpose of `_chosen`."""
    used = [axis for each in choices for axis in each.results]
    sizes = [prod(pattern.shape[axis] for axis in each.results) for each in choices]
    places = {axis: place for place, axis in enumerate(used)}
    pattern = place_axes(pattern, places, tuple(pattern.shape[axis] for axis in used))
    pattern = reshape(pattern, tuple(sizes))
    for axis, choice in enumerate(choices):
        size = prod(shape[a] for a in choice.sources)
        pattern = apply_axis(pattern, axis, placement(choice.line, size))
    sources = [axis for each in choices for axis in each.sources]
    pattern = reshape(pattern, tuple(shape[axis] for axis in sources))
    return transpose(pattern, [sources.index(a) for a in range(len(shape))])


def _layout(numbers: Any, rank: int, out_rank: int) -> tuple[dict[int, int], list[int]]:
    """Result axis of each source axis that a slice keeps, and the result's index axes."""
    dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [a for a in range(rank) if a not in dropped]
    index_axes = [a for a in range(out_rank) if a not in numbers.offset_dims]
    return dict(zip(kept, numbers.offset_dims, strict=True)), index_axes


def _anywhere(pattern: Pattern, numbers: Any, sizes: Any, shape: tuple[int, ...]) -> Pattern:
    """Gather at unknown indices: whole and batch axes stay, the others are read anywhere."""
    return place_axes(pattern, _kept_axes(numbers, sizes, pattern.shape, len(shape)), shape)


def _anywhere_into(pattern: Pattern, numbers: Any, sizes: Any, shape: tuple[int, ...]) -> Pattern:
    """Scatter at unknown indices: an update may land anywhere on the indexed axes."""
    kept = _kept_axes(numbers, sizes, shape, len(pattern.shape))
    return place_axes(pattern, {target: axis for axis, target in kept.items()}, shape)


def _kept_axes(numbers: Any, sizes: Any, shape: tuple[int, ...], out_rank: int) -> dict[int, int]:
    """Result axis of each axis of the source `shape` that is whole in a slice, or of a batch."""
    offsets, index_axes = _layout(numbers, len(shape), out_rank)
    # Index axes come in the order of the index array's axes, its last one (the vector) removed.
    batching = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    whole = {axis: target for axis, target in offsets.items() if sizes[axis] == shape[axis]}
    return whole | {axis: index_axes[where] for axis, where in batching}


def _slice_sizes(numbers: Any, update_shape: tuple[int, ...], rank: int) -> list[int]:
    """Slice sizes of the gather that a scatter transposes."""
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    windows = iter(numbers.update_window_dims)
    return [1 if a in dropped else update_shape[next(windows)] for a in range(rank)]
