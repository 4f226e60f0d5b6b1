"""Floating-point operations of a traced function, counted without compiling it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex

from ._convolution import NAME
from ._memory import known_entries, known_size


def count_flops(fn: Callable[..., Any], *args: Any) -> int:
    """Operations of `fn(*args)`: products and sums of contractions, one an element elsewhere.

    Loops whose length is not known count once, of several branches the dearest. Works under jit:
    nothing is evaluated.
    """
    return count_program(jax.make_jaxpr(fn)(*args).jaxpr)


def count_program(jaxpr: Any) -> int:
    """The same of a program that is traced already."""
    return sum(map(count_equation, jaxpr.eqns))


def count_equation(equation: Any) -> int:
    """The same of one of its equations."""
    programs = map(count_program, jex.jaxprs_in_params(equation.params))
    # Of several branches one is taken.
    inner = max(programs) if equation.primitive.name == "cond" else sum(programs)
    if inner:
        return inner * known_size(equation.params.get("length", 1))
    outputs = sum(known_entries(getattr(v.aval, "shape", ())) for v in equation.outvars)
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * outputs * known_entries(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2 * outputs * known_entries(kernel) // max(known_size(features), 1)
    if name == NAME:
        # Each of the three products is one multiplication a term of the same sum.
        convolution = equation.params["convolution"]
        features = dict(convolution.params)["dimension_numbers"].rhs_spec[0]
        (out, _), (kernel, _) = convolution.out, convolution.kernel
        terms = known_entries(out) * known_entries(kernel)
        return 2 * terms // max(known_size(kernel[features]), 1)
    return outputs
