"""Along which axes conditions change, and what an operation makes of that.

A mask is a conjunction, and of each of its clauses the axes are known along which it may change:
`valid[:, None] & (x > 0)` has one of axis 0 and one of axes 0 and 1. A contraction sums over axes;
a clause that changes along none of these holds behind it too, whatever the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax.extend.core as jex

from .._dependence import (
    Factor,
    LengthError,
    Operand,
    identity,
    read_equation,
    whole,
    with_own_length,
)
from .._dependence._boolean import eye
from .._memory import is_symbolic
from .._recent import Recent

# Of each clause of a conjunction the axes along which it changes. None: nothing is known.
Clauses = frozenset[frozenset[int]]

UNKNOWN: Clauses = frozenset()
# A mask that is the same everywhere.
UNIFORM: Clauses = frozenset({frozenset()})
# Clauses of one mask beyond this many are forgotten.
_MOST = 8


class Link(NamedTuple):
    """Axes of an output which see these axes of an operand.

    Attributes:
        inputs: axes of the operand.
        axes: axes of the output, none where it is summed over.
        same: whether it is one axis each, and entry i sees entry i alone.
    """

    inputs: tuple[int, ...]
    axes: tuple[int, ...]
    same: bool


Links = Sequence[Link]

# The layers of a network are alike.
_RECENT: Recent[list[Links]] = Recent(256)


def changing(shape: Sequence[Any]) -> Clauses:
    """Of a condition of which no more is known than its shape."""
    return frozenset({frozenset(axis for axis, size in enumerate(shape) if is_long(size))})


def is_long(size: Any) -> bool:
    """Whether something may change along an axis of that length."""
    return is_symbolic(size) or size != 1


def met(families: Iterable[Clauses]) -> Clauses:
    """Where all masks are true."""
    return _fewest(frozenset().union(*families))


def joined(families: Iterable[Clauses]) -> Clauses:
    """Where any mask is true: what follows from a clause of each."""
    each = list(families)
    return reduce(lambda a, b: _fewest({x | y for x in a for y in b}), each) if each else UNKNOWN


def moved(clauses: Clauses, by: dict[int, int]) -> Clauses:
    """Clauses with axes renamed, without those that have others."""
    return frozenset(
        frozenset(by[axis] for axis in clause) for clause in clauses if clause <= by.keys()
    )


def stacked(clauses: Clauses) -> Clauses:
    """Of masks of each step, of what a loop stacks of them."""
    return frozenset(frozenset({0, *(axis + 1 for axis in clause)}) for clause in clauses)


def stepped(clauses: Clauses) -> Clauses:
    """Of a mask of what a loop takes apart, of a step's part."""
    return _fewest(frozenset(axis - 1 for axis in clause if axis) for clause in clauses)


def links(equation: Any, which: int) -> list[Links] | None:
    """How each output sees an operand, by axes: empty where it does not. None: nobody knows."""
    try:
        equation = with_own_length(equation)
    except LengthError:
        return None
    shapes = [tuple(atom.aval.shape) for atom in equation.invars]
    if any(jex.jaxprs_in_params(equation.params)):
        return _read(equation, which, shapes)
    outs = tuple(tuple(atom.aval.shape) for atom in equation.outvars)
    key = (equation.primitive, tuple(equation.params.items()), tuple(shapes), outs, which)
    try:
        return _RECENT.get(key, lambda: _read(equation, which, shapes))
    except TypeError:  # A parameter that has no hash.
        return _read(equation, which, shapes)


def _read(equation: Any, which: int, shapes: Sequence[tuple[int, ...]]) -> list[Links]:
    operands = [
        Operand(shape, {0: (identity(shape),)} if place == which else {})
        for place, shape in enumerate(shapes)
    ]
    found = [each.dependence.get(0) for each in read_equation(equation, operands)]
    patterns = [whole(terms) if terms else None for terms in found]
    return [
        [
            Link(each.inputs, each.axes, _is_same(each))
            for each in (pattern.factors if pattern else ())
        ]
        for pattern in patterns
    ]


def clauses_behind(clauses: Clauses, known: Links, *, exact: bool) -> Clauses:
    """Of a mask of the operand, what holds of the output.

    Args:
        clauses: of the operand's mask.
        known: how the output sees it.
        exact: only along axes that are the same, as `pairs` has them.
    """
    return _through(clauses, known, exact, lambda link: (link.inputs, link.axes))


def clauses_before(clauses: Clauses, known: Links, *, exact: bool) -> Clauses:
    """Of a mask of the output, what holds of the operand."""
    return _through(clauses, known, exact, lambda link: (link.axes, link.inputs))


def pairs(known: Links) -> dict[int, int]:
    """Axes of the operand that are axes of the output, all else is mixed."""
    return {link.inputs[0]: link.axes[0] for link in known if link.same}


def _through(clauses: Clauses, known: Links, exact: bool, sides: Any) -> Clauses:
    ways: dict[int, tuple[int, ...]] = {}
    for link in known:
        start, end = sides(link)
        if end and (link.same or not exact):
            ways.update(dict.fromkeys(start, end))
    return _fewest(
        frozenset(axis for each in clause for axis in ways[each])
        for clause in clauses
        if clause <= ways.keys()
    )


def _is_same(factor: Factor) -> bool:
    single = len(factor.axes) == len(factor.inputs) == 1
    return single and factor.matrix == eye(factor.matrix.shape[0])


def _fewest(clauses: Iterable[frozenset[int]]) -> Clauses:
    """Without those that another one says more sharply."""
    each = frozenset(clauses)
    kept = [clause for clause in each if not any(other < clause for other in each)]
    return frozenset(sorted(kept, key=lambda clause: (len(clause), sorted(clause)))[:_MOST])
