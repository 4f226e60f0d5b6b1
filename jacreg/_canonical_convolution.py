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
    (batch, channels, *places), (out, into, *offsets), out_spec = equation.params[
        "dimension_numbers"
    ]
    last = len(places) + 1
    spatial = tuple(range(1, last))
    images, kernel = operands
    # The place of each axis of the result in the canonical order, batch, spatial, channels.
    order = [0] * (last + 1)
    for axis, place in zip(out_spec, (0, last, *spatial), strict=True):
        order[axis] = place
    found = bind(
        equation,
        [
            jnp.transpose(images, (batch, *places, channels)),
            jnp.transpose(kernel, (*offsets, into, out)),
        ],
        dimension_numbers=jax.lax.ConvDimensionNumbers(
            (0, last, *spatial), (last, last - 1, *range(last - 1)), (0, last, *spatial)
        ),
    )
    return [jnp.transpose(found[0], order)]
