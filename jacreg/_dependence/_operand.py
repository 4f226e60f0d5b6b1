"""What is known of a value while a linear program is read, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._forms import FORMS
from ._pattern import Pattern, place_axes
from ._terms import Terms, united

# Which input leaves a value depends on, and how: at least one term of each.
Dependence = dict[int, Terms]


@dataclass(frozen=True)
class Operand:
    """A value: its shape, what it depends on, and its entries where they are structural.

    `value` is known only if it follows from the program alone (iota, literals,
    integer constants): a parameter's zeros today are not zeros tomorrow. Where such
    a value masks a parameter, `support` says which entries may differ from zero.
    """

    shape: tuple[int, ...]
    dependence: Dependence = field(default_factory=dict)
    value: np.ndarray | None = None
    masked: np.ndarray | None = None

    @property
    def support(self) -> np.ndarray | None:
        """Which entries may differ from zero, None where all may."""
        return self.masked if self.value is None else self.value != 0


@dataclass
class Reader:
    """State of one reading: how to read a sub-program, and what could not be read.

    Attributes:
        read: read a sub-program.
        dense_primitives: what has no rule, or none for this use of it.
        mixing: the first operation behind which every entry depends on every input entry.
        places: where these stand in the user's file.
        rules: how many rules of derivatives (`jax.custom_jvp`) are being read, one within another.
    """

    read: Callable[[Any, Sequence[Any], list[Operand]], list[Operand]]
    dense_primitives: list[str] = field(default_factory=list)
    mixing: str | None = None
    places: dict[str, str] = field(default_factory=dict)
    rules: int = 0

    @property
    def obstacle(self) -> str | None:
        """The operation that `reasons` names first."""
        return self.dense_primitives[0] if self.dense_primitives else self.mixing

    def reasons(self) -> tuple[str, ...]:
        """Why a function is dense: what could not be read, else what mixes its entries."""
        if self.dense_primitives:
            return tuple(self.dense_primitives)
        if self.mixing is not None:
            return (f"{self.mixing}, which mixes all entries",)
        return ("no two entries that never meet",)


@dataclass(frozen=True)
class Equation:
    """One equation of the program, as a rule sees it.

    Attributes:
        name, params: of the primitive.
        operands: what is known of each.
        shapes: of the outputs.
        reader: for sub-programs.
        source: the equation itself.
    """

    name: str
    params: dict[str, Any]
    operands: list[Operand]
    shapes: list[tuple[int, ...]]
    reader: Reader
    source: Any = None


Rule = Callable[[Equation], list[Dependence]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for primitives."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def rule_of(name: str) -> Rule | None:
    """The rule of a primitive: its own, else that of all elementwise ones; None without one."""
    found = RULES.get(name)
    if found is None and name in FORMS and FORMS[name].kind == "elementwise":
        return RULES["add"]
    return found


def merge(*dependences: Dependence) -> Dependence:
    """Union of what several values of one shape depend on."""
    merged: Dependence = {}
    for dependence in dependences:
        for leaf, terms in dependence.items():
            merged[leaf] = united((*merged[leaf], *terms)) if leaf in merged else terms
    return merged


def each(dependence: Dependence, operation: Callable[[Pattern], Pattern]) -> Dependence:
    """Apply an operation to each term of every leaf, dropping what becomes empty."""
    changed = {leaf: united(map(operation, terms)) for leaf, terms in dependence.items()}
    return {leaf: terms for leaf, terms in changed.items() if terms}


def everything(equation: Equation, *, why: str | None = None) -> list[Dependence]:
    """All entries of all outputs depend on whatever any entry of any operand depends on."""
    if why is not None and why not in equation.reader.dense_primitives:
        equation.reader.dense_primitives.append(why)

    def spread(operand: Operand, shape: tuple[int, ...]) -> Dependence:
        return each(operand.dependence, lambda pattern: place_axes(pattern, {}, shape))

    return [
        merge(*(spread(operand, shape) for operand in equation.operands))
        for shape in equation.shapes
    ]
