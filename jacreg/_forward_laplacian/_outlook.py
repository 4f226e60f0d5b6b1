"""What a forward Laplacian is sure to go through, and how much it may hold at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from .._derivative import derivative, is_inexact
from .._forms import form_of
from .._interpret import inner_program, opened, propagate
from .._memory import known_entries
from .._signature import Signature

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


def _read(jaxpr: Any, depends: Sequence[bool], known: set[Signature]) -> tuple[list[bool], int]:
    """Which outputs depend on x, and the entries of the largest array that does."""
    entering = zip(jaxpr.invars, depends, strict=True)
    largest = max((known_entries(v.aval.shape) for v, each in entering if each), default=1)

    def step(equation: Any, own: list[bool | None]) -> list[bool]:
        nonlocal largest
        outs, entries = _equation(equation, list(map(bool, own)), known)
        largest = max(largest, entries)
        return outs

    outs = list(map(bool, propagate(jaxpr, depends, step)))
    return outs, largest


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
        _, within = _read(rule, [is_inexact(v.aval) for v in rule.invars], known)
        entries = max(entries, within)
    return real, entries
