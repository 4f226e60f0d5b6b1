"""Whether all directions of a forward Laplacian can be held at once, told from its program."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .._dependence import LengthError, Operand, is_stand_in, read_equation, whole, with_own_length
from .._dependence._boolean import Boolean
from .._dependence._pattern import Factor, Pattern, join
from .._forms import Form, form_of
from .._interpret import inner_program, opened, propagate
from .._memory import known_entries
from ._colors import MOST_SEEN, greedy, num_colors
from ._directions import itself
from ._seen import operand_of


class Room(NamedTuple):
    """What arrays of directions take, where those that nothing sees together share a slot.

    Attributes:
        fits: none is larger than what may be held.
        exceeds: one surely is.
        mixes: a function with second derivatives sees all of x in one entry, so that no two
            directions of the Hessian may share a product.
    """

    fits: bool
    exceeds: bool
    mixes: bool


def room(jaxpr: Any, shapes: Sequence[tuple[int, ...]], most: int) -> Room:
    """What the directions by each of several inputs take.

    Args:
        jaxpr: the program of a scalar field.
        shapes: of its inputs that depend on x, which come first, `[N, *in]`.
        most: entries of an array that may be held.
    """
    found = [_by_one(jaxpr, which, shape, most) for which, shape in enumerate(shapes)]
    fits, exceeds, mixes = zip(*found, strict=True)
    return Room(all(fits), any(exceeds), all(mixes))


def _by_one(jaxpr: Any, which: int, shape: tuple[int, ...], most: int) -> Room:
    given: list[Operand | None] = [None] * len(jaxpr.invars)
    try:
        source = with_own_length(jaxpr)
    except LengthError:
        return Room(fits=False, exceeds=False, mixes=False)
    given[which] = operand_of(source.invars[which].aval, itself(shape), None)
    reader = _Reader(most, [axis.shape[-1] for axis in itself(shape)])
    with suppress(_Known):
        reader.read(source, given)
    return Room(not reader.is_full, reader.exceeds, reader.mixes)


class _Known(Exception):
    """What follows tells no more."""


class _Reader:
    """Reads what each array sees: for each axis of x a leaf of its own.

    Attributes:
        is_full: whether an array may be larger than what may be held.
        exceeds, mixes: as of `Room`.
    """

    def __init__(self, most: int, directions: Sequence[int]) -> None:
        self.is_full = self.exceeds = self.mixes = False
        self._most, self._directions = most, directions
        # Slots of a relation, which stays the same through many operations; with it, for its id.
        self._slots: dict[int, tuple[Boolean, int]] = {}

    def read(self, jaxpr: Any, given: Sequence[Operand | None]) -> list[Operand | None]:
        """What each output sees."""
        return propagate(jaxpr, given, self._step)

    def _step(self, equation: Any, own: list[Operand | None]) -> Sequence[Operand | None]:
        form = form_of(equation)
        if form.degree == "zero":
            return [None] * len(equation.outvars)
        if form.kind == "call":
            return self.read(opened(inner_program(equation))[0], own)
        outs = _outputs(equation, form, own)
        seeing = [
            (_entries(atom), each)
            for atom, each in zip(equation.invars, own, strict=True)
            if each is not None
        ]
        if not self.exceeds:
            self._measure(seeing, list(map(_entries, equation.outvars)), outs)
        if not self.mixes and form.kind == "elementwise" and form.degree == "smooth":
            self.mixes = any(self._sees_all(each) for _, each in seeing)
        if self.exceeds and self.mixes:
            raise _Known
        return outs

    def _measure(
        self,
        seeing: Sequence[tuple[int, Operand]],
        entries: Sequence[int],
        outs: Sequence[Operand | None],
    ) -> None:
        after = [(size, each) for size, each in zip(entries, outs, strict=True) if each is not None]
        # What is summed over may lie in the slots of the sum before.
        largest = max([size for size, _ in seeing] + list(entries))
        if any(self._slotted(largest, each) > self._most for _, each in after):
            self.is_full = True
            held = (*seeing, *after)
            self.exceeds = any(self._slotted(size, each) > self._most for size, each in held)

    def _slotted(self, entries: int, operand: Operand) -> int:
        """Entries of an array with its slots, or with all directions if these are not too many."""
        dense = entries * prod(self._directions)
        if dense <= self._most:
            return dense
        slots = (self._num_slots(terms) for terms in operand.dependence.values())
        return entries * prod(slots)

    def _num_slots(self, terms: Sequence[Pattern]) -> int:
        matrix = _relation(whole(terms)).matrix
        found = self._slots.get(id(matrix))
        if found is None:
            found = self._slots[id(matrix)] = matrix, _count_slots(matrix)
        return found[1]

    def _sees_all(self, operand: Operand) -> bool:
        """Whether some entry sees every position along every axis of x."""
        if len(operand.dependence) < len(self._directions):
            return False
        seen = np.ones((1,) * len(operand.shape), bool)
        for terms in operand.dependence.values():
            axes, _, matrix = _relation(whole(terms))
            order = np.argsort(axes)
            rows = matrix.counts == matrix.shape[1]
            rows = rows.reshape([operand.shape[axis] for axis in axes]).transpose(order)
            seen = seen & rows.reshape(
                [size if axis in axes else 1 for axis, size in enumerate(operand.shape)]
            )
        return bool(seen.any())


def _outputs(equation: Any, form: Form, own: list[Operand | None]) -> list[Operand | None]:
    seeing = [number for number, each in enumerate(own) if each is not None]
    first = own[seeing[0]]
    shapes = {v.aval.shape for v in (*(equation.invars[k] for k in seeing), *equation.outvars)}
    if form.kind == "elementwise" and len(shapes) == 1 and all(own[k] is first for k in seeing):
        return [first] * len(equation.outvars)
    operands = [
        Operand(tuple(atom.aval.shape)) if each is None else each
        for atom, each in zip(equation.invars, own, strict=True)
    ]
    return [_bounded(out) if out.dependence else None for out in read_equation(equation, operands)]


def _entries(atom: Any) -> int:
    """Entries of an array; that of a symbol's length has one that is not known again."""
    return known_entries(None if is_stand_in([size]) else size for size in atom.aval.shape)


def _bounded(operand: Operand) -> Operand:
    """As one relation each, and as wide as what is carried has it."""
    found = {}
    for leaf, terms in operand.dependence.items():
        pattern = whole(terms)
        rows = prod(operand.shape[axis] for axis in _relation(pattern).axes)
        (count,) = pattern.in_shape
        if rows * count > MOST_SEEN:
            everywhere = np.bincount(_relation(pattern).matrix.indices, minlength=count) > 0
            factor = Factor((), (0,), Boolean.of_array(everywhere[None]))
            pattern = Pattern(operand.shape, pattern.in_shape, (factor,))
        found[leaf] = (pattern,)
    return Operand(operand.shape, found)


def _relation(pattern: Pattern) -> Factor:
    """Positions along one axis of x that are seen; some factors say which entries see none."""
    return pattern.factors[0] if len(pattern.factors) == 1 else join(pattern.factors)


def _count_slots(matrix: Boolean) -> int:
    """As `color` finds them."""
    most = matrix.counts.max(initial=0)
    if most <= 1:
        return 1
    conflict = matrix.T @ matrix
    return matrix.shape[1] if conflict.is_full else num_colors(greedy(conflict.toarray()))
