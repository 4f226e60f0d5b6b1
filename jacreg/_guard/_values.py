"""Masks, written down to be evaluated where a factor needs them, and the values that they read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial, reduce
from operator import and_, or_
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._interpret import bind
from .._sharding import match_sharding

# A mask that the program around gives to a body: ("through", input) or ("asked", output).
Name = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Mask:
    """Booleans, or several arrays of them.

    Attributes:
        parts: what it is made of.
        evaluate: `(values, those of parts)` to its booleans.
        name: where the program around gives it.
        said: whether a condition of this program is in it.
    """

    parts: tuple[Mask, ...]
    evaluate: Callable[[Values, list[Any]], Any]
    name: Name | None = None
    condition: InitVar[bool] = False
    said: bool = field(init=False)

    def __post_init__(self, condition: bool) -> None:
        object.__setattr__(self, "said", condition or any(part.said for part in self.parts))


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


def given(name: Name) -> Mask:
    """The mask of that name."""
    return Mask((), lambda values, _: values.given(name), name)


def nowhere(aval: Any) -> Mask:
    """No entry of such an array."""
    return Mask((), lambda *_: match_sharding(jnp.zeros(aval.shape, bool), aval))


def everywhere(aval: Any) -> Mask:
    """Every entry of such an array."""
    return Mask((), lambda *_: match_sharding(jnp.ones(aval.shape, bool), aval))


def chosen(which: Any, case: int, shape: tuple[int, ...]) -> Mask:
    """Where a selection takes that case."""

    def evaluate(values: Values, _: Any) -> Any:
        found = jnp.asarray(values.read(which))
        found = found == case if found.dtype != bool else found if case else ~found
        return jnp.broadcast_to(found, shape)

    return Mask((), evaluate, condition=True)


def both(*masks: Mask | None) -> Mask | None:
    """Where all are that are masks at all."""
    found = [mask for mask in masks if mask is not None]
    return _joined(and_, found) if found else None


def either(masks: Sequence[Mask]) -> Mask:
    """Where any is."""
    return _joined(or_, masks)


def _joined(join: Callable[[Any, Any], Any], masks: Sequence[Mask]) -> Mask:
    if len(masks) == 1:
        return masks[0]
    return Mask(tuple(masks), lambda _, parts: reduce(join, parts))


def spread(mask: Mask | None, before: tuple[int, ...], after: tuple[int, ...]) -> Mask | None:
    """That of an operand as one of what it is repeated to: a scalar, axes of one entry."""
    if mask is None or before == after:
        return mask
    return Mask((mask,), lambda _, parts: jnp.broadcast_to(parts[0], after))


def gathered(mask: Mask | None, before: tuple[int, ...], after: tuple[int, ...]) -> Mask | None:
    """The way back: where any of the entries is that an operand is repeated to."""
    if mask is None or before == after:
        return mask
    ahead = len(before) - len(after)
    repeated = [axis for axis in range(len(before)) if axis < ahead or after[axis - ahead] == 1]

    def evaluate(_: Any, parts: list[Any]) -> Any:
        return jnp.any(parts[0], axis=tuple(repeated), keepdims=True).reshape(after)

    return Mask((mask,), evaluate)


def along(equation: Any, linear: Sequence[bool], masks: Sequence[Mask | None]) -> list[Mask]:
    """Where entries arrive, by a move of those of its linear operands: a count of them."""

    def evaluate(values: Values, parts: list[Any]) -> Any:
        counts = _counts([atom.aval for atom in equation.invars], masks, parts)
        operands = [
            count if is_linear else _as_count(values.read(atom))
            for atom, is_linear, count in zip(equation.invars, linear, counts, strict=True)
        ]
        return [count > 0 for count in bind(equation, operands)]

    return picked(_group(masks, evaluate), len(equation.outvars))


def back(equation: Any, linear: Sequence[bool], masks: Sequence[Mask | None]) -> list[Mask]:
    """Where the linear operands of a move have entries that arrive within the masks."""

    def evaluate(values: Values, parts: list[Any]) -> Any:
        held = [
            None if is_linear else _as_count(values.read(atom))
            for atom, is_linear in zip(equation.invars, linear, strict=True)
        ]
        avals = [atom.aval for atom, each in zip(equation.invars, linear, strict=True) if each]

        def move(*counts: Any) -> Any:
            left = iter(counts)
            return bind(equation, [next(left) if each is None else each for each in held])

        counts = _counts([atom.aval for atom in equation.outvars], masks, parts)
        return [count > 0 for count in jax.linear_transpose(move, *map(_ones, avals))(counts)]

    return picked(_group(masks, evaluate), sum(linear))


def _group(masks: Sequence[Mask | None], evaluate: Callable[[Values, list[Any]], Any]) -> Mask:
    return Mask(tuple(mask for mask in masks if mask is not None), evaluate)


def _counts(avals: Sequence[Any], masks: Sequence[Mask | None], parts: Iterable[Any]) -> list[Any]:
    left = iter(parts)
    return [
        _ones(aval) if mask is None else match_sharding(jnp.asarray(next(left), jnp.float32), aval)
        for aval, mask in zip(avals, masks, strict=True)
    ]


def picked(group: Mask, count: int) -> list[Mask]:
    """The members of a mask that is several."""
    return [Mask((group,), partial(_pick, i)) for i in range(count)]


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


def _pick(which: int, _: Any, parts: list[Any]) -> Any:
    return parts[0][which]


def _ones(aval: Any) -> Any:
    return match_sharding(jnp.ones(aval.shape, jnp.float32), aval)


def _as_count(value: Any) -> Any:
    """What stands beside a count: indices as they are, a padding in its type."""
    is_float = jnp.issubdtype(jnp.result_type(value), jnp.floating)
    return jnp.asarray(value, jnp.float32) if is_float else value
