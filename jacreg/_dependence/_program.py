"""The linear program of a Jacobian: of J v, or of J^T u where there is no forward mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import DirectionError
from .._interpret import mentions
from .._linearize import Linearization
from .._memory import is_symbolic
from ._length import with_known_length


class LinearProgram(NamedTuple):
    """A closed jaxpr that is linear in its inputs from `first_tangent` on.

    Attributes:
        closed: what the function closes over, its further arguments and its inputs, then
            tangents of the inputs, to tangents of the outputs; or transposed.
        values: of the inputs before the tangents: the entries of those that are part of the
            program (`structural_value`), None for the others. It is all that a pattern is read
            from beside the program's own text.
        first_tangent: position of the first tangent.
        reverse: whether it maps cotangents of the outputs to those of the inputs.
    """

    closed: Any
    values: tuple[np.ndarray | None, ...]
    first_tangent: int
    reverse: bool


def linear_program(lin: Linearization) -> LinearProgram:
    """Trace the derivative of a linearised function as a program of its own.

    The derivative, not the function, is read for dependence: custom derivative
    rules, comparisons and integer detours then count as what they contribute.

    What the function closes over and its further arguments are inputs of the program, so that it
    is the same one whether they are concrete, traced or placeholders. Where the batch's length
    is a symbol, a number stands for it.

    Raises:
        DirectionError: (a TypeError) the function has no derivative.
        LengthError: (a ValueError) the length is a symbol, and the program computes with it.
    """
    held = (lin.constants, lin.args)

    def call(held: Any, xs: Any) -> Any:
        return lin.with_constants(*held).evaluate(xs)

    def forward(held: Any, xs: Any, tangent: Any) -> Any:
        return jax.jvp(lambda xs: call(held, xs), (xs,), (tangent,))[1]

    def backward(held: Any, xs: Any, cotangent: Any) -> Any:
        return jax.vjp(lambda xs: call(held, xs), xs)[1](cotangent)[0]

    values = (*structural_values(lin), *(None for _ in jax.tree.leaves(lin.xs)))
    try:
        closed = jax.make_jaxpr(forward)(held, lin.xs, lin.xs)
        if mentions(closed.jaxpr, "custom_lin"):
            raise DirectionError("a custom VJP has no forward mode")
        reverse = False
    except (TypeError, NotImplementedError) as no_forward:
        try:
            closed = jax.make_jaxpr(backward)(held, lin.xs, lin.value)
        except (TypeError, ValueError, NotImplementedError) as no_reverse:
            raise DirectionError(
                f"color: the function has neither a forward ({no_forward}) nor a reverse mode "
                f"({no_reverse})."
            ) from no_reverse
        reverse = True
    if is_symbolic(lin.num_examples):
        closed = with_known_length(closed, lin.num_examples)
    return LinearProgram(closed, values, len(values), reverse)


def structural_values(lin: Linearization) -> tuple[np.ndarray | None, ...]:
    """`structural_value` of what a linearised function closes over and of its arguments."""
    return tuple(map(structural_value, jax.tree.leaves((lin.constants, lin.args))))


def structural_value(constant: Any) -> np.ndarray | None:
    """Entries of a constant that are part of the program: concrete integers and booleans.

    Floating-point constants are parameters: what is zero today is not a missing edge.
    """
    dtype = getattr(constant, "dtype", None)
    if dtype is None or not is_structural(dtype) or isinstance(constant, jax.ShapeDtypeStruct):
        return None
    try:
        return np.asarray(constant)
    except jax.errors.TracerArrayConversionError:
        return None


def is_structural(dtype: Any) -> bool:
    """Whether entries of that type choose among others: integers and booleans."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended) and np.dtype(dtype).kind in "iub"
