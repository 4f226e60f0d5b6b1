"""A program run with its values, tangents and second-order terms."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from .._dependence import is_structural
from .._derivative import derivative, is_inexact
from .._forms import SIDE_BY_SIDE, Form, form_of
from .._interpret import bind, inner_program, interpret, mentions
from .._memory import is_symbolic
from .._traced import is_traced
from ._bilinear import bilinear
from ._carried import Carried, Order, Refusal, narrow, value_of
from ._directions import Directions
from ._elementwise import entrywise
from ._followed import is_followed
from ._linear import linear
from ._loop import loop
from ._opaque import opaque
from ._seen import is_entrywise

# Larger arrays are computed where they are used.
_MOST_VALUES = 1 << 20
_SIDE_EFFECTS = ("pure_callback", "io_callback", "custom_vjp_call", "ffi_call")


def carry(
    program: Any, inputs: Sequence[Any], which: int, directions: Directions, order: Order
) -> Any:
    """The output of a program of one output, carried; plain where it does not depend on x."""
    operands = list(inputs)
    operands[which] = Carried(inputs[which], directions.seen, lambda: directions, lambda: None)
    (out,) = Runner(order).run(program, program.consts, operands)
    return out


class Runner:
    """Runs programs on operands that are carried or plain."""

    def __init__(self, order: Order) -> None:
        self.order = order
        # For arrays made by repeating a smaller one, that one; with the array, to keep its id.
        self._small: dict[int, tuple[Any, Any]] = {}
        # Arrays that follow from the program alone, by their id: as where a resized image is read.
        self._structural: dict[int, Any] = {}

    def run(self, program: Any, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        """Outputs of a jaxpr, closed or not."""
        jaxpr = getattr(program, "jaxpr", program)
        consts = getattr(program, "consts", consts)
        return interpret(jaxpr, consts, operands, self.apply)

    def small(self, array: Any) -> Any:
        """The array with length 1 along axes where it is known to be constant."""
        known = self._small.get(id(array))
        return array if known is None else known[1]

    def apply(self, equation: Any, operands: list[Any]) -> list[Any]:
        name, form = equation.primitive.name, form_of(equation)
        if not any(isinstance(each, Carried) for each in operands):
            return self._plain(equation, form, operands)
        if form.degree == "zero" or not any(is_inexact(out.aval) for out in equation.outvars):
            return bind(equation, list(map(value_of, operands)))  # whole numbers move by jumps
        if form.kind == "call" and name != "custom_jvp_call":
            return self.run(inner_program(equation), (), operands)
        if not any(isinstance(e, Carried) and form.differentiates(k)
                   for k, e in enumerate(operands)):  # fmt: skip
            return bind(equation, list(map(value_of, operands)))
        try:
            outs = self._derive(equation, form, operands)
            return list(map(narrow, outs, self.order.needed(equation)))
        except (TypeError, NotImplementedError) as error:
            raise Refusal(equation, str(error)) from error

    def _derive(self, equation: Any, form: Form, operands: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in _SIDE_EFFECTS or any(
            mentions(inner, each)
            for inner in jex.jaxprs_in_params(equation.params)
            for each in _SIDE_EFFECTS
        ):
            raise Refusal(equation, "has no forward-mode derivative")
        if name == "custom_jvp_call":
            return self._custom(equation, operands)
        if is_followed(equation, form):
            return opaque(equation, operands, self.order)
        if name in SIDE_BY_SIDE:
            return operands
        if name == "scan":
            return loop(equation, operands, self.order, self.run_inner)
        if form.kind == "elementwise":
            return [entrywise(equation, form, operands, self.order, self.small)]
        if form.degree == "bilinear":
            return [bilinear(equation, operands, self.order)]
        return linear(equation, form, operands, self.order)

    def run_inner(self, program: Any, consts: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        """Run the body of a loop, in which nothing outside is remembered."""
        return Runner(self.order).run(program, consts, operands)

    def _custom(self, equation: Any, operands: list[Any]) -> list[Any]:
        """A function with a derivative rule of its own, which is the one that counts."""
        places = [k for k, each in enumerate(operands) if isinstance(each, Carried)]
        single = len(equation.outvars) == 1
        if single and is_entrywise(derivative(equation, places), equation.outvars[0].aval.shape):
            form = Form("elementwise", "smooth")
            return [entrywise(equation, form, operands, self.order, self.small)]
        return opaque(equation, operands, self.order)

    def _plain(self, equation: Any, form: Form, operands: list[Any]) -> list[Any]:
        """An operation on what does not depend on x."""
        if self._is_structural(equation, operands):
            with jax.ensure_compile_time_eval():
                outs = bind(equation, operands)
            self._structural.update((id(out), out) for out in outs)
            return outs
        outs = bind(equation, operands)
        if equation.primitive.name == "broadcast_in_dim":
            shape = [1] * outs[0].ndim
            for axis, place in enumerate(equation.params["broadcast_dimensions"]):
                shape[place] = np.shape(operands[0])[axis]
            self._small[id(outs[0])] = outs[0], jnp.reshape(operands[0], shape)
        return outs

    def _is_structural(self, equation: Any, operands: Sequence[Any]) -> bool:
        """Whether it computes indices or masks from what is known while tracing.

        Integers and booleans are part of the program, other numbers where it computes them of these
        and of single ones: an array of them that is given is a parameter.
        """
        if equation.effects or any(jex.jaxprs_in_params(equation.params)):
            return False
        if any(map(is_traced, operands)):
            return False
        for variable in equation.outvars:
            shape, dtype = variable.aval.shape, variable.aval.dtype
            if any(map(is_symbolic, shape)) or prod(shape) > _MOST_VALUES:
                return False
            if jnp.issubdtype(dtype, jax.dtypes.extended):
                return False
        return all(
            np.ndim(each) == 0 or is_structural(each.dtype) or id(each) in self._structural
            for each in operands
        )
