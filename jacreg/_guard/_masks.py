"""Masks of other masks: where a value may differ from zero, and where it has an effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from operator import and_, or_
from typing import Any

import jax
import jax.numpy as jnp

from .._interpret import bind
from .._sharding import match_sharding
from ._axes import (
    UNIFORM,
    UNKNOWN,
    Clauses,
    clauses_before,
    clauses_behind,
    joined,
    links,
    met,
    moved,
)
from ._values import Mask, Name, Values


def given(name: Name, clauses: Clauses) -> Mask:
    """The mask of that name."""
    return Mask((), lambda values, _: values.given(name), name, lambda: clauses)


def nowhere(aval: Any) -> Mask:
    """No entry of such an array."""
    return Mask(
        (),
        lambda *_: match_sharding(jnp.zeros(aval.shape, bool), aval),
        along=lambda: UNIFORM,
    )


def everywhere(aval: Any) -> Mask:
    """Every entry of such an array."""
    return Mask((), lambda *_: match_sharding(jnp.ones(aval.shape, bool), aval))


def chosen(which: Any, case: int, shape: tuple[int, ...], along: Callable[[], Clauses]) -> Mask:
    """Where a selection takes that case."""

    def evaluate(values: Values, _: Any) -> Any:
        return jnp.broadcast_to(takes(jnp.asarray(values.read(which)), case), shape)

    return Mask((), evaluate, along=along, condition=True)


def takes(which: Any, case: int) -> Any:
    """Where the index of a selection, an array of booleans or integers, is that of a case."""
    return which == case if which.dtype != bool else which if case else ~which


def both(*masks: Mask | None) -> Mask | None:
    """Where all are that are masks at all."""
    found = [mask for mask in masks if mask is not None]
    return _combined(and_, found, met) if found else None


def either(masks: Sequence[Mask]) -> Mask:
    """Where any is."""
    return _combined(or_, masks, joined)


def _combined(
    combine: Callable[[Any, Any], Any],
    masks: Sequence[Mask],
    clauses: Callable[[Iterable[Clauses]], Clauses],
) -> Mask:
    if len(masks) == 1:
        return masks[0]
    return Mask(
        tuple(masks),
        lambda _, parts: reduce(combine, parts),
        along=lambda: clauses(mask.clauses for mask in masks),
    )


def widened(mask: Mask, clauses: Clauses) -> Mask:
    """The same, of which less is known: itself where that is no less."""
    if mask.clauses == clauses:
        return mask
    return Mask((mask,), lambda _, parts: parts[0], along=lambda: clauses)


def spread(mask: Mask | None, before: tuple[int, ...], after: tuple[int, ...]) -> Mask | None:
    """That of an operand as one of what it is repeated to: a scalar, axes of one entry."""
    if mask is None or before == after:
        return mask
    ahead = len(after) - len(before)
    by = {axis: axis + ahead for axis in range(len(before))}
    return Mask(
        (mask,),
        lambda _, parts: jnp.broadcast_to(parts[0], after),
        along=lambda: moved(mask.clauses, by),
    )


def gathered(mask: Mask | None, before: tuple[int, ...], after: tuple[int, ...]) -> Mask | None:
    """The way back: where any of the entries is that an operand is repeated to."""
    if mask is None or before == after:
        return mask
    ahead = len(before) - len(after)
    repeated = [axis for axis in range(len(before)) if axis < ahead or after[axis - ahead] == 1]
    by = {axis: axis - ahead for axis in range(len(before)) if axis not in repeated}

    def evaluate(_: Any, parts: list[Any]) -> Any:
        return jnp.any(parts[0], axis=tuple(repeated), keepdims=True).reshape(after)

    return Mask((mask,), evaluate, along=lambda: moved(mask.clauses, by))


def along(equation: Any, linear: Sequence[bool], masks: Sequence[Mask | None]) -> list[Mask]:
    """Where entries arrive, by a move of those of its linear operands: a count of them."""

    def evaluate(values: Values, parts: list[Any]) -> Any:
        counts = _counts([atom.aval for atom in equation.invars], masks, parts)
        operands = [
            count if is_linear else _as_count(values.read(atom))
            for atom, is_linear, count in zip(equation.invars, linear, counts, strict=True)
        ]
        return [count > 0 for count in bind(equation, operands)]

    def clauses(which: int) -> Clauses:
        if any(mask is None for mask, each in zip(masks, linear, strict=True) if each):
            return UNKNOWN
        return joined(
            _seen(links(equation, place), which, mask.clauses, clauses_behind)
            for place, mask in enumerate(masks)
            if mask is not None
        )

    return picked(_group(masks, evaluate), len(equation.outvars), clauses)


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

    places = [place for place, each in enumerate(linear) if each]

    def clauses(which: int) -> Clauses:
        if any(mask is None for mask in masks):
            return UNKNOWN
        known = links(equation, places[which])
        return joined(
            _seen(known, place, mask.clauses, clauses_before)
            for place, mask in enumerate(masks)
            if mask is not None
        )

    return picked(_group(masks, evaluate), sum(linear), clauses)


def _seen(known: Any, which: int, clauses: Clauses, through: Callable[..., Clauses]) -> Clauses:
    """Clauses of a move, of one of its outputs."""
    if known is None or not clauses:
        return UNKNOWN
    # What does not see the operand has no entry of it.
    return through(clauses, known[which], exact=False) if known[which] else UNIFORM


def _group(masks: Sequence[Mask | None], evaluate: Callable[[Values, list[Any]], Any]) -> Mask:
    return Mask(tuple(mask for mask in masks if mask is not None), evaluate)


def _counts(avals: Sequence[Any], masks: Sequence[Mask | None], parts: Iterable[Any]) -> list[Any]:
    left = iter(parts)
    return [
        _ones(aval) if mask is None else match_sharding(jnp.asarray(next(left), jnp.float32), aval)
        for aval, mask in zip(avals, masks, strict=True)
    ]


def picked(group: Mask, count: int, clauses: Callable[[int], Clauses]) -> list[Mask]:
    """The members of a mask that is several, and the clauses of each."""
    return [Mask((group,), partial(_pick, i), along=partial(clauses, i)) for i in range(count)]


def _pick(which: int, _: Any, parts: list[Any]) -> Any:
    return parts[0][which]


def _ones(aval: Any) -> Any:
    return match_sharding(jnp.ones(aval.shape, jnp.float32), aval)


def _as_count(value: Any) -> Any:
    """What stands beside a count: indices as they are, a padding in its type."""
    is_float = jnp.issubdtype(jnp.result_type(value), jnp.floating)
    return jnp.asarray(value, jnp.float32) if is_float else value
