"""The derivative of one operation as a program of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ._interpret import bind


def derivative(equation: Any, places: Sequence[int]) -> Any:
    """Forward derivative of one equation by some of its operands, as a closed jaxpr.

    Args:
        equation: any with a forward mode.
        places: the operands that are differentiated, inexact ones.

    Returns:
        a program of all operands, then a tangent for each of `places`, to the tangents of the
        outputs that are inexact.
    """
    count = len(equation.invars)
    real = [number for number, out in enumerate(equation.outvars) if is_inexact(out.aval)]

    def tangents(*given: Any) -> list[Any]:
        primals = given[:count]

        def call(*at: Any) -> list[Any]:
            here = dict(zip(places, at, strict=True))
            outs = bind(equation, [here.get(k, each) for k, each in enumerate(primals)])
            return [outs[number] for number in real]

        at = [primals[place] for place in places]
        return jax.jvp(call, at, list(given[count:]))[1]

    inputs = [*equation.invars, *(equation.invars[place] for place in places)]
    return jax.make_jaxpr(tangents)(*(_struct(each.aval) for each in inputs))


def is_inexact(aval: Any) -> bool:
    """Whether a tangent passes: of a floating-point or complex type."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _struct(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=getattr(aval, "sharding", None))
