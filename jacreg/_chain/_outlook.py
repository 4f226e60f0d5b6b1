"""What tells early that a Hessian is no sum of chains, before the gradient is differentiated."""

from __future__ import annotations

from typing import Any

import jax.extend.core as jex

from .._choice import Unfit
from .._convolution import is_convolution
from .._interpret import CALLS, contains
from .._linearize import Linearization
from .._source import place
from ._read import RULES

# A Hessian leads through every layer but the last twice, and of convolutions a closed way has at
# most four (`local_trace`).
_MOST_CONVOLUTIONS = 3


def check_hessian_readable(lin: Linearization) -> None:
    """Leave where the Hessian of a scalar field cannot be a sum of chains.

    Tangents of the gradient pass through the layers that those of the field pass through, so an
    operation of its linear program that no chain has is in the gradient's too.

    Raises:
        Unfit: it cannot.
    """
    linear = lin.program.linear
    obstacle = _first_obstacle(linear)
    if obstacle is not None:
        raise Unfit(f"no closed form ({obstacle.primitive.name}{place(obstacle)})")
    if contains(linear, is_convolution) and _depth(linear) > _MOST_CONVOLUTIONS:
        raise Unfit("no closed form (too many convolutions)")


def _first_obstacle(jaxpr: Any) -> Any:
    """The first operation on a tangent that no chain has, None where there is none."""
    tangents = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if not any(not isinstance(v, jex.Literal) and v in tangents for v in equation.invars):
            continue
        tangents.update(equation.outvars)
        if equation.primitive.name in CALLS:
            inner = [_first_obstacle(each) for each in jex.jaxprs_in_params(equation.params)]
            obstacle = next((each for each in inner if each is not None), None)
            if obstacle is not None:
                return obstacle
        elif equation.primitive.name not in RULES:
            return equation
    return None


def _depth(jaxpr: Any) -> int:
    """The most convolutions and matrices that follow one another in a linear program."""
    depth: dict[Any, int] = {}
    for equation in jaxpr.eqns:
        behind = [depth.get(v, 0) for v in equation.invars if not isinstance(v, jex.Literal)]
        own = 1 if is_convolution(equation) or equation.primitive.name == "dot_general" else 0
        if equation.primitive.name in CALLS:
            own = max(map(_depth, jex.jaxprs_in_params(equation.params)), default=0)
        for variable in equation.outvars:
            depth[variable] = max(behind, default=0) + own
    return max(depth.values(), default=0)
