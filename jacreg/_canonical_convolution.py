"""Run a program with its convolutions in the layout that XLA:CPU has kernels for.

XLA:CPU brings convolutions into that layout, [N, spatial, C] with a kernel [spatial, I, O], in the
main program alone. In the body of a loop any other stays as it is and takes a naive one, about
fifteen times as long: those that JAX makes for J^T u (their kernel is [spatial, O, I]) and all
images with channels first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._interpret import JIT, bind, interpret, interpret_inner

if TYPE_CHECKING:
    from jaxtyping import Array


def run_with_canonical_convolutions(closed: Any, *args: Array) -> list[Array]:
    """Evaluate a program; convolutions inside its loops and custom derivatives stay as they are."""
    return interpret(closed.jaxpr, closed.consts, args, _apply)


def _apply(equation: Any, operands: Sequence[Any]) -> list[Any]:
    name = equation.primitive.name
    if name in JIT:
        return interpret_inner(equation, operands, _apply)
    if name == "conv_general_dilated":
        return _convolution(equation, operands)
    return bind(equation, operands)


def _convolution(equation: Any, operands: Sequence[Any]) -> list[Any]:
    numbers = equation.params["dimension_numbers"]
    last = len(numbers.lhs_spec) - 1
    images = (0, last, *range(1, last))
    canonical = jax.lax.ConvDimensionNumbers(images, (last, last - 1, *range(last - 1)), images)
    arrays = to_canonical(operands[0], operands[1], numbers)
    found = bind(equation, arrays, dimension_numbers=canonical)
    return [from_canonical(found[0], numbers)]


def to_canonical(images: Array, kernel: Array, numbers: Any) -> tuple[Array, Array]:
    """Images as [N, spatial, C] and the kernel as [spatial, I, O]."""
    batch, channels, *places = numbers.lhs_spec
    out, into, *offsets = numbers.rhs_spec
    return (
        jnp.transpose(images, (batch, *places, channels)),
        jnp.transpose(kernel, (*offsets, into, out)),
    )


def from_canonical(outs: Array, numbers: Any) -> Array:
    """A result [N, spatial, C] in the order of axes that is asked for."""
    batch, channels, *places = numbers.out_spec
    order = [0] * outs.ndim
    for place, axis in enumerate((batch, *places, channels)):
        order[axis] = place
    return jnp.transpose(outs, order)
