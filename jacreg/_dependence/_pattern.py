"""Which input entries each entry of an array depends on, as a product of small relations.

A convolutional network couples rows with rows and columns with columns: its
dependence is a product of one boolean matrix an axis, however many channels and
positions there are. A `Pattern` holds such a product; axes that only a joint
matrix describes (a flattened image, a plus-shaped stencil) share one. Every
operation returns a superset of the true dependence, exact wherever the joint
matrices stay below `_JOINT_ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from ._boolean import Boolean, eye, kron, ones

# Joint matrices beyond this many entries are widened to a product instead: planning a
# 128x128x3 image is to take seconds and little memory.
_JOINT_ENTRIES = 4_000_000
_WIDEST_ENTRIES = 40_000_000


class Factor(NamedTuple):
    """One relation: rows run over `axes` of the array, columns over `inputs` of the input."""

    axes: tuple[int, ...]
    inputs: tuple[int, ...]
    matrix: Boolean  # [prod of axes, prod of inputs]


@dataclass(frozen=True)
class Pattern:
    """Entry e depends on input entry i where every factor relates them.

    Axes of the array that no factor names do not matter; every input axis is named
    by exactly one factor.
    """

    shape: tuple[int, ...]
    in_shape: tuple[int, ...]
    factors: tuple[Factor, ...]

    def find(self, axis: int) -> Factor | None:
        """Return the factor that names an axis of the array."""
        return next((f for f in self.factors if axis in f.axes), None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing depends on anything."""
        return any(f.matrix.nnz == 0 for f in self.factors)

    @property
    def is_whole(self) -> bool:
        """Whether every entry depends on every input entry."""
        return all(f.matrix.is_full for f in self.factors)


def identity(shape: tuple[int, ...]) -> Pattern:
    """The input's own pattern: each entry depends on itself."""
    return Pattern(
        shape, shape, tuple(Factor((a,), (a,), eye(size)) for a, size in enumerate(shape))
    )


def dense(shape: tuple[int, ...], in_shape: tuple[int, ...]) -> Pattern:
    """Every entry depends on every input entry."""
    return Pattern(
        shape, in_shape, tuple(Factor((), (a,), ones(1, n)) for a, n in enumerate(in_shape))
    )


def join(factors: Sequence[Factor]) -> Factor:
    """One factor over the axes of several."""
    if not factors:
        return Factor((), (), ones(1, 1))
    axes, inputs, matrix = factors[0]
    for f in factors[1:]:
        matrix = kron(matrix, f.matrix)
        axes, inputs = axes + f.axes, inputs + f.inputs
    return Factor(axes, inputs, matrix)


def joint_entries(factors: Sequence[Factor]) -> int:
    """How many entries `join` would store."""
    return prod(f.matrix.nnz for f in factors)


def with_axes(shape: tuple[int, ...], factor: Factor, axes: tuple[int, ...]) -> Factor:
    """Rewrite the rows of a factor to run over `axes`, a superset of its own, in that order."""
    missing = [Factor((a,), (), ones(shape[a], 1)) for a in axes if a not in factor.axes]
    full = join([factor, *missing]) if missing else factor
    if full.axes == axes:
        return full
    order = [full.axes.index(a) for a in axes]
    numbers = np.arange(full.matrix.shape[0]).reshape([shape[a] for a in full.axes])
    rows = numbers.transpose(order).reshape(-1)
    return Factor(axes, full.inputs, full.matrix[rows])


def with_inputs(in_shape: tuple[int, ...], factor: Factor, inputs: tuple[int, ...]) -> Factor:
    """Put the columns of a factor into the order `inputs`."""
    if factor.inputs == inputs:
        return factor
    order = [factor.inputs.index(a) for a in inputs]
    numbers = np.arange(factor.matrix.shape[1]).reshape([in_shape[a] for a in factor.inputs])
    moved = np.argsort(numbers.transpose(order).reshape(-1))
    rows, columns = factor.matrix.entries
    return Factor(
        factor.axes, inputs, Boolean.of_entries(rows, moved[columns], factor.matrix.shape)
    )


def reduce_axis(pattern: Pattern, axis: int) -> Pattern:
    """Remove an axis: an entry depends on whatever any entry along it did."""
    shape = pattern.shape[:axis] + pattern.shape[axis + 1 :]
    factors = []
    for f in pattern.factors:
        if axis in f.axes:
            others = tuple(a for a in f.axes if a != axis)
            g = with_axes(pattern.shape, f, (axis, *others))
            rest = prod(pattern.shape[a] for a in others)
            rows, columns = g.matrix.entries
            matrix = Boolean.of_entries(rows % max(rest, 1), columns, (rest, g.matrix.shape[1]))
            f = Factor(others, g.inputs, matrix)
        factors.append(_renamed(f, lambda a: a - (a > axis)))
    return merge_axisless(Pattern(shape, pattern.in_shape, tuple(factors)))


def reduce_axes(pattern: Pattern, axes: Iterable[int]) -> Pattern:
    """Remove several."""
    for axis in sorted(axes, reverse=True):
        pattern = reduce_axis(pattern, axis)
    return pattern


def place_axes(pattern: Pattern, places: Mapping[int, int], shape: tuple[int, ...]) -> Pattern:
    """Pattern of an array of that shape, in which axis a of the old one is axis `places[a]`.

    Over an axis without a place entries are taken together; along a new one nothing changes.
    """
    left_out = [axis for axis in range(len(pattern.shape)) if axis not in places]
    targets = [places[axis] for axis in sorted(places)]
    pattern = reduce_axes(pattern, left_out)
    factors = tuple(_renamed(f, targets.__getitem__) for f in pattern.factors)
    return Pattern(shape, pattern.in_shape, factors)


def widen(pattern: Pattern, axis: int, size: int) -> Pattern:
    """Let each entry along an axis depend on whatever any did, in an axis of that size."""
    return insert_axis(reduce_axis(pattern, axis), axis, size)


def insert_axis(pattern: Pattern, axis: int, size: int) -> Pattern:
    """Add an axis along which nothing changes."""
    shape = (*pattern.shape[:axis], size, *pattern.shape[axis:])
    factors = tuple(_renamed(f, lambda a: a + (a >= axis)) for f in pattern.factors)
    return Pattern(shape, pattern.in_shape, factors)


def transpose(pattern: Pattern, permutation: Sequence[int]) -> Pattern:
    """Permute the axes as `jnp.transpose` does."""
    places = {old: new for new, old in enumerate(permutation)}
    return place_axes(pattern, places, tuple(pattern.shape[a] for a in permutation))


def apply_axis(pattern: Pattern, axis: int, relation: Boolean) -> Pattern:
    """Replace an axis by the rows of `relation [new, old]`: row i sees the old entries it names."""
    new, old = relation.shape
    shape = (*pattern.shape[:axis], new, *pattern.shape[axis + 1 :])
    if relation.is_full and old > 0:
        return widen(pattern, axis, new)
    found = pattern.find(axis)
    if found is None:
        reached = relation.counts > 0
        if reached.all():
            return Pattern(shape, pattern.in_shape, pattern.factors)
        mask = Factor((axis,), (), Boolean.of_array(reached[:, None]))
        return Pattern(shape, pattern.in_shape, (*pattern.factors, mask))
    others = tuple(a for a in found.axes if a != axis)
    g = with_axes(pattern.shape, found, (axis, *others))
    if others and g.matrix.nnz * (relation.nnz / max(new, 1)) > _WIDEST_ENTRIES:
        return widen(pattern, axis, new)
    rest = prod(pattern.shape[a] for a in others)
    lifted = relation if rest == 1 else kron(relation, eye(rest))
    changed = Factor(g.axes, g.inputs, lifted @ g.matrix)
    if not others and changed.matrix.is_full:
        changed = Factor((), g.inputs, changed.matrix[:1])
    factors = tuple(changed if f is found else f for f in pattern.factors)
    return merge_axisless(Pattern(shape, pattern.in_shape, factors))


def union(left: Pattern, right: Pattern) -> Pattern:
    """Entries depend on what they did in either; exact unless the joint matrix were too large."""
    both = product_union(left, right)
    if both is not None:
        return both
    pairs = _pairs(left, right)
    if pairs is None:
        return _reduced_union(left, right)
    shape, in_shape = left.shape, left.in_shape
    equal = [a for a, b in pairs if same(a, b)]
    differing = [(a, b) for a, b in pairs if not same(a, b)]
    sides = [[pair[side] for pair in differing] for side in (0, 1)]
    if sum(map(joint_entries, sides)) <= _JOINT_ENTRIES:
        one, other = (join(side) for side in sides)
        joined = Factor(one.axes, one.inputs, one.matrix | other.matrix)
        return Pattern(shape, in_shape, (*equal, joined))
    widened = [Factor(a.axes, a.inputs, a.matrix | b.matrix) for a, b in differing]
    return Pattern(shape, in_shape, (*equal, *widened))


def product_union(left: Pattern, right: Pattern) -> Pattern | None:
    """The union where it is a product of no more axes together than the two are; None elsewhere."""
    if left is right or left.factors is right.factors:
        return left
    for each in (left, right):
        if each.is_whole:
            return each
    pairs = _pairs(left, right)
    if pairs is None:
        return None
    differing = [(a.matrix, b.matrix) for a, b in pairs if not same(a, b)]
    if all(a.contains(b) for a, b in differing):
        return left
    if all(b.contains(a) for a, b in differing):
        return right
    if len(differing) > 1:
        return None
    factors = (a if same(a, b) else Factor(a.axes, a.inputs, a.matrix | b.matrix) for a, b in pairs)
    return Pattern(left.shape, left.in_shape, tuple(factors))


def merge_axisless(pattern: Pattern) -> Pattern:
    """Drop factors that say nothing: no axes, no inputs, true; take apart those that say all."""
    kept: list[Factor] = []
    for f in pattern.factors:
        if len(f.inputs) > 1 and not f.axes and f.matrix.is_full:
            kept += (Factor((), (a,), ones(1, pattern.in_shape[a])) for a in f.inputs)
        elif f.axes or f.inputs or f.matrix.nnz == 0:
            kept.append(f)
    return Pattern(pattern.shape, pattern.in_shape, tuple(kept))


def same(left: Factor, right: Factor) -> bool:
    """Whether two factors over the same axes are one relation."""
    return left.matrix is right.matrix or left.matrix == right.matrix


def _renamed(factor: Factor, rename: Callable[[int], int]) -> Factor:
    return Factor(tuple(rename(a) for a in factor.axes), factor.inputs, factor.matrix)


def _components(left: Pattern, right: Pattern) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Finest grouping of axes and inputs that respects the factors of both patterns."""
    groups: list[tuple[set[int], set[int]]] = []
    for f in (*left.factors, *right.factors):
        axes, inputs = set(f.axes), set(f.inputs)
        rest = []
        for group_axes, group_inputs in groups:
            if axes & group_axes or inputs & group_inputs:
                axes, inputs = axes | group_axes, inputs | group_inputs
            else:
                rest.append((group_axes, group_inputs))
        groups = [*rest, (axes, inputs)]
    return [(tuple(sorted(a)), tuple(sorted(i))) for a, i in groups]


def _pairs(left: Pattern, right: Pattern) -> list[tuple[Factor, Factor]] | None:
    """Both patterns as factors over the same axes and inputs; None where one were too large."""
    pairs = []
    for axes, inputs in _components(left, right):
        own, other = (_collect(pattern, axes, inputs) for pattern in (left, right))
        if own is None or other is None:
            return None
        pairs.append((own, other))
    return pairs


def _collect(pattern: Pattern, axes: tuple[int, ...], inputs: tuple[int, ...]) -> Factor | None:
    """The part of a pattern inside one component as a single factor, None where too large."""
    inside = [f for f in pattern.factors if set(f.axes) & set(axes) or set(f.inputs) & set(inputs)]
    repeats = prod(pattern.shape[a] for a in axes if not any(a in f.axes for f in inside))
    grows = len(inside) > 1 or repeats > 1
    if grows and joint_entries(inside) * repeats > _JOINT_ENTRIES:
        return None
    joined = with_axes(pattern.shape, join(inside), axes)
    return with_inputs(pattern.in_shape, joined, inputs)


def _reduced_union(left: Pattern, right: Pattern) -> Pattern:
    """A coarse union: widen every axis that the two patterns group differently."""
    shared = {(f.axes, f.inputs) for f in left.factors} & {
        (f.axes, f.inputs) for f in right.factors
    }
    keep = {a for axes, _ in shared for a in axes}

    def widened(p: Pattern) -> Pattern:
        for axis in range(len(p.shape)):
            if axis not in keep and p.find(axis) is not None:
                p = widen(p, axis, p.shape[axis])
        return split_axisless(p)

    return union(widened(left), widened(right))


def split_axisless(pattern: Pattern) -> Pattern:
    """Widen factors without axes to one an input axis, so that two patterns can be compared."""
    factors = []
    for f in pattern.factors:
        if f.axes or len(f.inputs) <= 1:
            factors.append(f)
            continue
        columns = f.matrix.toarray().reshape([pattern.in_shape[i] for i in f.inputs])
        for position, i in enumerate(f.inputs):
            others = tuple(k for k in range(len(f.inputs)) if k != position)
            seen = np.any(columns, axis=others, keepdims=True).reshape((1, -1))
            factors.append(Factor((), (i,), Boolean.of_array(seen)))
    return Pattern(pattern.shape, pattern.in_shape, tuple(factors))
