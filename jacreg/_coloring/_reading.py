"""From a Linearization to its relation, by the linear program of its Jacobian."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

from .._convolution import evaluate_equation
from .._dependence import (
    Cutter,
    LinearProgram,
    Reader,
    constants_digest,
    read_dependence,
    structural_value,
    with_known_length,
)
from .._errors import DirectionError
from .._interpret import CALLS, bind, interpret, interpret_inner, mentions
from .._linearize import Linearization
from .._memory import is_symbolic
from ._relation import Relation, relation_of


def dependence_of(lin: Linearization) -> tuple[Relation, LinearProgram, Reader]:
    """Read which output entries of an example see which of its input entries."""
    program = linear_program(lin)
    relation, reader = relation_in(program)
    return relation, program, reader


def relation_in(program: LinearProgram, cut: Cutter | None = None) -> tuple[Relation, Reader]:
    """The relation that the linear program of a linearised function shows.

    Args:
        program: the linear program.
        cut: as for `read_dependence`.
    """
    outputs, reader = read_dependence(program, cut)
    shapes = [tuple(each.aval.shape) for each in program.tangents]
    relation = relation_of(outputs, shapes, program.reverse)
    return relation, reader


def linear_program(lin: Linearization, *, opened: bool = False) -> LinearProgram:
    """Trace the derivative of a linearised function as a program of its own.

    The derivative, not the function, is read for dependence: custom derivative
    rules, comparisons and integer detours then count as what they contribute.

    What the function closes over and its further arguments are inputs of the program, so that it
    is the same one whether they are concrete, traced or placeholders. Where the batch's length
    is a symbol, a number stands for it.

    Args:
        lin: the function.
        opened: without the calls in the function, so that each of its values is one of the
            program; a sum that is taken twice, as the mean of a variance beside the mean itself,
            is one value.

    Raises:
        DirectionError: (a TypeError) the function has no derivative.
        LengthError: (a ValueError) the length is a symbol, and the program computes with it.
    """
    held = (lin.constants, lin.args)

    def call(held: Any, xs: Any) -> Any:
        own = lin.with_constants(*held)
        return _evaluate_opened(own, xs) if opened else own.evaluate(xs)

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


def _evaluate_opened(lin: Linearization, xs: Any) -> Any:
    sums: dict[Any, tuple[Any, Any]] = {}

    def apply(equation: Any, operands: list[Any]) -> Any:
        name = equation.primitive.name
        if name in CALLS:
            return interpret_inner(equation, operands, apply)
        if name != "reduce_sum":
            return evaluate_equation(equation, operands)
        key = id(operands[0]), equation.params["axes"]
        if key not in sums:
            # The operand is kept, so that no other has its id.
            sums[key] = operands[0], bind(equation, operands)
        return sums[key][1]

    leaves = jax.tree.leaves((xs, *lin.args))
    return lin.program.returned(interpret(lin.program.jaxpr, lin.constants, leaves, apply))


def structural_values(lin: Linearization) -> tuple[np.ndarray | None, ...]:
    """`structural_value` of what a linearised function closes over and of its arguments."""
    return tuple(map(structural_value, jax.tree.leaves((lin.constants, lin.args))))


def structural_key(lin: Linearization) -> Hashable:
    """What the places of zeros in a Jacobian may depend on: the program and index tables.

    The program stands there by its signature, which keeps no trace alive.

    Shapes are part of the program. Integers and booleans that the function closes over or takes as
    arguments may choose entries; where they are traced they are not known, and the key says so.
    """
    return lin.program.signature, constants_digest(structural_values(lin))
