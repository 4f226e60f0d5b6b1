"""Run a program (a jaxpr) one equation after the other, each as the caller says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.extend.core as jex


def interpret(
    jaxpr: Any,
    consts: Sequence[Any],
    args: Sequence[Any],
    apply: Callable[[Any, list[Any]], Sequence[Any]],
) -> list[Any]:
    """Return the program's outputs, where `apply(equation, operands)` gives those of an equation.

    Operands are whatever `args` and earlier equations gave, and the values of literals.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        outs = apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bind(equation: Any, operands: Sequence[Any], **changed: Any) -> list[Any]:
    """Evaluate one equation on arrays, with some of its parameters changed."""
    found = equation.primitive.get_bind_params({**equation.params, **changed})
    # Older releases of JAX return functions beside the parameters.
    functions, params = found if isinstance(found, tuple) else ((), found)
    outs = equation.primitive.bind(*functions, *operands, **params)
    return list(outs) if equation.primitive.multiple_results else [outs]
