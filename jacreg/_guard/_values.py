"""Masks, written down to be evaluated where a factor needs them, and the values that they read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any

import jax.extend.core as jex
import jax.numpy as jnp

from .._interpret import bind
from .._sharding import match_sharding
from ._axes import UNKNOWN, Clauses

# A mask that the program around gives to a body: ("through", input) or ("asked", output).
Name = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Mask:
    """Booleans, or several arrays of them.

    Attributes:
        parts: what it is made of.
        evaluate: `(values, those of parts)` to its booleans.
        name: where the program around gives it.
        along: computes `clauses`.
        said: whether a condition of this program is in it.
    """

    parts: tuple[Mask, ...]
    evaluate: Callable[[Values, list[Any]], Any]
    name: Name | None = None
    along: Callable[[], Clauses] = lambda: UNKNOWN
    condition: InitVar[bool] = False
    said: bool = field(init=False)

    def __post_init__(self, condition: bool) -> None:
        object.__setattr__(self, "said", condition or any(part.said for part in self.parts))

    @cached_property
    def clauses(self) -> Clauses:
        """Along which axes it changes; read only where something is mixed."""
        return self.along()


class Values:
    """What a program computes without its linear inputs, evaluated where it is asked for."""

    def __init__(
        self, equations: Sequence[Any], linear: Collection[Any], known: Mapping[Any, Any],
        given: Mapping[Name, Any] | None = None,
    ) -> None:  # fmt: skip
        self._made_by = {atom: equation for equation in equations for atom in equation.outvars}
        self._linear = linear
        self._known = dict(known)
        self._given = given or {}
        self._masks: dict[int, Any] = {}
        self.factors: dict[int, Any] = {}

    def copy(self) -> Values:
        """The same, to go on with."""
        found = Values((), self._linear, self._known, self._given)
        found._made_by, found._masks = self._made_by, dict(self._masks)
        found.factors = dict(self.factors)
        return found

    def given(self, name: Name) -> Any:
        """A mask of the program around."""
        return self._given[name]

    def __contains__(self, atom: Any) -> bool:
        return atom in self._known

    def update(self, atoms: Iterable[Any], arrays: Iterable[Any]) -> None:
        """Take what an equation gave."""
        self._known.update(zip(atoms, arrays, strict=True))

    def read(self, wanted: Any) -> Any:
        """The value of an atom that is not linear, or is known."""
        if isinstance(wanted, jex.Literal):
            return wanted.val
        pending = [wanted]
        while pending:
            atom = pending[-1]
            if atom not in self._known:
                missing = self._missing(self._made_by[atom])
                if missing:
                    pending += missing
                    continue
                self._evaluate(self._made_by[atom])
            pending.pop()
        return self._known[wanted]

    def of(self, wanted: Mask) -> Any:
        """What a mask is."""
        pending = [wanted]
        while pending:
            mask = pending[-1]
            if id(mask) not in self._masks:
                missing = [each for each in mask.parts if id(each) not in self._masks]
                if missing:
                    pending += missing
                    continue
                parts = [self._masks[id(each)] for each in mask.parts]
                self._masks[id(mask)] = mask.evaluate(self, parts)
            pending.pop()
        return self._masks[id(wanted)]

    def _missing(self, equation: Any) -> list[Any]:
        return [
            atom
            for atom in equation.invars
            if not isinstance(atom, jex.Literal)
            and atom not in self._known
            and atom not in self._linear
        ]

    def _evaluate(self, equation: Any) -> None:
        """Where an equation has linear outputs too, the others do not see its linear operands."""
        operands = [
            match_sharding(jnp.zeros(atom.aval.shape, atom.aval.dtype), atom.aval)
            if self._is_open(atom)
            else self.read(atom)
            for atom in equation.invars
        ]
        outs = bind(equation, operands)
        found = [
            (a, o) for a, o in zip(equation.outvars, outs, strict=True) if not self._is_open(a)
        ]
        self._known.update(found)

    def _is_open(self, atom: Any) -> bool:
        return not isinstance(atom, jex.Literal) and atom in self._linear and atom not in self


def names(masks: Iterable[Mask | None]) -> list[Name]:
    """Which masks of the program around these are made of."""
    pending = [mask for mask in masks if mask is not None]
    found: dict[Name, None] = {}
    seen = set()
    while pending:
        mask = pending.pop()
        if id(mask) in seen:
            continue
        seen.add(id(mask))
        if mask.name is not None:
            found[mask.name] = None
        pending += mask.parts
    return list(found)
