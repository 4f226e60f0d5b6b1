"""What a forward Laplacian is sure to go through, and how much it may hold at most."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax.extend.core as jex
import jax.numpy as jnp

from .._derivative import derivative
from .._forms import Form, form_of
from .._interpret import inner_program, opened
from .._memory import known_entries
from .._signature import Signature
from ._colors import Seen, color, num_colors
from ._directions import itself
from ._seen import Sight, reach

_KINDS = ("elementwise", "moved", "contraction", "window", "choice")
# JAX knows the first derivative of these by one operand or the other, and no second one.
_ONCE = ("igamma", "igammac", "polygamma", "regularized_incomplete_beta")
# Rules that are read: those made of functions that are new in every trace (a callback, a rule with
# symbolic zeros) never look like one that was read before.
_MOST_RULES = 32


class _Unsure(Exception):
    """An operation that has to be tried."""


def most_entries(jaxpr: Any, depends: Sequence[bool], directions: int) -> int | None:
    """A bound on the entries of each array of a forward Laplacian that none of its forms refuses.

    Args:
        jaxpr: the program of a scalar field.
        depends: which of its inputs depend on x.
        directions: entries of x an example.

    Returns:
        None where only carrying it tells: there are loops, or rules of which nothing is known.
    """
    try:
        _, largest = _read(jaxpr, depends, set())
    except _Unsure:
        return None
    return largest * directions


def fits_slots(jaxpr: Any, shapes: Sequence[tuple[int, ...]], most: int) -> bool:
    """Whether no array of directions is larger, where those that nothing sees together share one.

    Args:
        jaxpr: the program of a scalar field.
        shapes: of its inputs that depend on x, which come first, `[N, *in]`.
        most: entries of an array.
    """
    for which, shape in enumerate(shapes):
        sights: list[Sight] = [None] * len(jaxpr.invars)
        sights[which] = itself(shape)
        if _fitting(jaxpr, sights, most) is None:
            return False
    return True


def _fitting(jaxpr: Any, given: Sequence[Sight], most: int) -> list[Sight] | None:
    """What each output sees; None where an array times its slots has more entries."""
    seen = dict(zip(jaxpr.invars, given, strict=True))
    for equation in jaxpr.eqns:
        own = [None if isinstance(v, jex.Literal) else seen.get(v) for v in equation.invars]
        form = form_of(equation)
        if form.degree == "zero" or all(each is None for each in own):
            continue
        outs = (
            _fitting(opened(inner_program(equation))[0], own, most)
            if form.kind == "call"
            else _sights(equation, form, own)
        )
        if outs is None:
            return None
        # What is summed over lies in the slots of the sum before.
        atoms = [v for v, each in zip(equation.invars, own, strict=True) if each is not None]
        entries = max(known_entries(atom.aval.shape) for atom in (*atoms, *equation.outvars))
        if any(each is not None and _slotted(entries, each, most) > most for each in outs):
            return None
        seen.update(zip(equation.outvars, outs, strict=True))
    return [None if isinstance(v, jex.Literal) else seen.get(v) for v in jaxpr.outvars]


def _sights(equation: Any, form: Form, own: Sequence[Sight]) -> Sequence[Sight]:
    seeing = [number for number, each in enumerate(own) if each is not None]
    shapes = {v.aval.shape for v in (equation.invars[seeing[0]], *equation.outvars)}
    if form.kind == "elementwise" and len(seeing) == len(shapes) == 1:
        return [own[seeing[0]]] * len(equation.outvars)
    return reach(equation, own, [None] * len(own))


def _slotted(entries: int, sight: tuple[Seen, ...], most: int) -> int:
    """Entries of an array with its slots, or with all directions if these are not too many."""
    dense = entries * prod(axis.shape[-1] for axis in sight)
    return dense if dense <= most else entries * prod(num_colors(color(axis)) for axis in sight)


def _read(jaxpr: Any, depends: Sequence[bool], known: set[Signature]) -> tuple[list[bool], int]:
    """Which outputs depend on x, and the entries of the largest array that does."""
    seen = {v for v, each in zip(jaxpr.invars, depends, strict=True) if each}
    largest = max((known_entries(v.aval.shape) for v in seen), default=1)

    def sees(atom: Any) -> bool:
        return not isinstance(atom, jex.Literal) and atom in seen

    for equation in jaxpr.eqns:
        places = [sees(atom) for atom in equation.invars]
        if not any(places):
            continue
        outs, entries = _equation(equation, places, known)
        largest = max(largest, entries)
        seen.update(v for v, out in zip(equation.outvars, outs, strict=True) if out)
    return [sees(atom) for atom in jaxpr.outvars], largest


def _equation(equation: Any, places: list[bool], known: set[Signature]) -> tuple[list[bool], int]:
    form, name = form_of(equation), equation.primitive.name
    if form.degree == "zero":
        return [False] * len(equation.outvars), 1
    if name == "custom_jvp_call":
        return _by_rule(equation, places, known)
    if form.kind == "call":
        inner, _ = opened(inner_program(equation))
        return _read(inner, places, known)
    atoms = (*equation.invars, *equation.outvars)
    if (
        form.kind not in _KINDS or name in _ONCE or equation.effects
        or any(jnp.issubdtype(atom.aval.dtype, jnp.complexfloating) for atom in atoms)
    ):  # fmt: skip
        raise _Unsure
    real = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.outvars]
    return real, max(known_entries(atom.aval.shape) for atom in atoms)


def _by_rule(equation: Any, places: list[bool], known: set[Signature]) -> tuple[list[bool], int]:
    """A rule is differentiated once more, so what it consists of has to be plain, too."""
    own = Signature.of_parameters(equation)
    real = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.outvars]
    entries = max(known_entries(v.aval.shape) for v in (*equation.invars, *equation.outvars))
    if own not in known:
        if len(known) == _MOST_RULES:
            raise _Unsure
        known.add(own)  # a rule may hold the function that it is for
        of = [place for place, each in enumerate(places) if each]
        rule = derivative(equation, of).jaxpr
        _, within = _read(rule, [True] * len(rule.invars), known)
        entries = max(entries, within)
    return real, entries
