"""The linear program of a Jacobian: of J v, or of J^T u where there is no forward mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from .._errors import DirectionError
from .._interpret import mentions
from .._linearize import Linearization


class LinearProgram(NamedTuple):
    """A closed jaxpr that is linear in its inputs from `first_tangent` on.

    Attributes:
        closed: tangents of the inputs to tangents of the outputs, or transposed.
        first_tangent: position of the first tangent.
        reverse: whether it maps cotangents of the outputs to those of the inputs.
    """

    closed: Any
    first_tangent: int
    reverse: bool


def linear_program(lin: Linearization) -> LinearProgram:
    """Trace the derivative of a linearised function as a program of its own.

    The derivative, not the function, is read for dependence: custom derivative
    rules, comparisons and integer detours then count as what they contribute.
    """

    def call(xs: Any) -> Any:
        return lin.evaluate(xs)

    def forward(xs: Any, tangent: Any) -> Any:
        return jax.jvp(call, (xs,), (tangent,))[1]

    def backward(xs: Any, cotangent: Any) -> Any:
        return jax.vjp(call, xs)[1](cotangent)[0]

    first = len(jax.tree.leaves(lin.xs))
    try:
        closed = jax.make_jaxpr(forward)(lin.xs, lin.xs)
        if mentions(closed.jaxpr, "custom_lin"):
            raise DirectionError("a custom VJP has no forward mode")
        return LinearProgram(closed, first, reverse=False)
    except (TypeError, NotImplementedError) as no_forward:
        try:
            closed = jax.make_jaxpr(backward)(lin.xs, lin.value)
        except (TypeError, ValueError, NotImplementedError) as no_reverse:
            raise DirectionError(
                f"color: the function has neither a forward ({no_forward}) nor a reverse mode "
                f"({no_reverse})."
            ) from no_reverse
        return LinearProgram(closed, first, reverse=True)
