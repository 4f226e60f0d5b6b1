"""Operations that a forward Laplacian follows by their derivative rule, direction by direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from .._derivative import derivative, is_inexact
from .._forms import SIDE_BY_SIDE, Form, form_of
from .._interpret import inner_program, opened, propagate, scan_counts
from .._source import place
from ._seen import is_entrywise


def is_complex(equation: Any) -> bool:
    """Whether an operand or an output is."""
    return any(
        jnp.issubdtype(atom.aval.dtype, jnp.complexfloating)
        for atom in (*equation.invars, *equation.outvars)
    )


def is_followed(equation: Any, form: Form) -> bool:
    """Whether nothing but its derivative rule is known of an equation that is no call."""
    if equation.primitive.name in SIDE_BY_SIDE or equation.primitive.name == "scan":
        return False
    if form.kind == "elementwise" or form.degree == "bilinear":
        return is_complex(equation)
    return form.degree not in ("linear", "piecewise")


def first_followed(jaxpr: Any, depends: Sequence[bool]) -> tuple[str, str] | None:
    """The first operation of a program that is followed so, and its place; None without one.

    Args:
        jaxpr: of a scalar field.
        depends: which of its inputs depend on x.
    """
    return _read(jaxpr, depends)[0]


def _read(jaxpr: Any, depends: Sequence[bool]) -> tuple[tuple[str, str] | None, list[bool]]:
    """The first such operation, and which outputs depend on x."""
    first = None

    def step(equation: Any, own: list[bool | None]) -> list[bool]:
        nonlocal first
        form = form_of(equation)
        places = [bool(each) and form.differentiates(k) for k, each in enumerate(own)]
        if not any(places) or form.degree == "zero":
            return [False] * len(equation.outvars)
        found, outs = _equation(equation, form, places)
        if first is None and found is not None:
            # A program inside a program may not know its place.
            first = found[0], found[1] or place(equation)
        return outs

    outs = list(map(bool, propagate(jaxpr, depends, step)))
    return first, outs


def _equation(
    equation: Any, form: Form, places: list[bool]
) -> tuple[tuple[str, str] | None, list[bool]]:
    name, outs = equation.primitive.name, [is_inexact(v.aval) for v in equation.outvars]
    if name == "custom_jvp_call":
        return None if _has_plain_rule(equation, places) else (name, place(equation)), outs
    if form.kind == "call":
        return _read(opened(inner_program(equation))[0], places)
    if name == "scan":
        return _loop(equation, places), outs
    followed = any(outs) and is_followed(equation, form)
    return (name, place(equation)) if followed else None, outs


def _has_plain_rule(equation: Any, places: list[bool]) -> bool:
    """Whether a function with a rule of its own is elementwise, as far as the function tells."""
    if len(equation.outvars) > 1:
        return False
    shape = equation.outvars[0].aval.shape
    if is_entrywise(inner_program(equation), shape):
        return True
    return is_entrywise(derivative(equation, [k for k, each in enumerate(places) if each]), shape)


def _loop(equation: Any, places: list[bool]) -> tuple[str, str] | None:
    body = equation.params["jaxpr"].jaxpr
    consts, carries = scan_counts(equation)
    depends = list(places)
    while True:
        first, outs = _read(body, depends)
        after = [a or b for a, b in zip(depends[consts:], outs[:carries], strict=False)]
        if depends[consts : consts + carries] == after[:carries]:
            return first
        depends[consts : consts + carries] = after[:carries]
