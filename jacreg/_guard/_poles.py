"""Whether a function may have derivatives that are not finite."""

from __future__ import annotations

from typing import Any

import jax.extend.core as jex

from .._forms import form_of
from .._interpret import contains

# With finite derivatives of every order at every finite input.
_TAME = frozenset(
    {"tanh", "logistic", "sin", "cos", "erf", "erfc", "atan", "asinh", "square",
     "one_minus_square"}
)  # fmt: skip
_PROGRAMS = ("call", "loop")


def has_pole(jaxpr: Any) -> bool:
    """Whether an operation in a program has a derivative that is not finite for some input."""
    return contains(jaxpr, _has_pole)


def _has_pole(equation: Any) -> bool:
    name, form = equation.primitive.name, form_of(equation)
    if form.degree != "smooth" or form.kind in _PROGRAMS or name in _TAME:
        return False
    if name == "div":
        return not isinstance(equation.invars[1], jex.Literal)
    return name != "integer_pow" or equation.params["y"] < 0
