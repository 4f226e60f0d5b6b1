"""What tells early that a Jacobian is no sum of chains, or that a Hessian's would gain nothing."""

from __future__ import annotations

from typing import Any

import jax.extend.core as jex

from .._choice import Unfit
from .._convolution import is_convolution
from .._interpret import CALLS, contains, inner_program, on_tangents, opened
from .._linearize import Linearization
from .._memory import known_entries, known_size
from .._source import place
from ._chain import Unreadable
from ._read import RULES, Obstacle, other_form

# Of convolutions a closed way has at most four (`local_trace`), and a Hessian leads through every
# layer but the last twice.
_MOST_CONVOLUTIONS, _MOST_IN_HESSIAN = 4, 3
_SCALES = ("mul", "div", "select_n")


def check_readable(lin: Linearization) -> None:
    """Leave where a Jacobian cannot be a sum of chains, before any of it is traced.

    Raises:
        Unfit: it cannot.
    """
    _check(lin.program.linear, _MOST_CONVOLUTIONS)


def check_hessian_readable(lin: Linearization) -> None:
    """Leave where the Hessian of a scalar field cannot be a sum of chains.

    Tangents of the gradient pass through the layers that those of the field pass through, so an
    operation of its linear program that no chain has is in the gradient's too.

    Raises:
        Unfit: it cannot.
    """
    _check(lin.program.linear, _MOST_IN_HESSIAN)


def may_save(lin: Linearization) -> bool:
    """Whether a closed form of a Laplacian may take less than all directions carried forward.

    Of matrices it takes a row for each entry of the narrowest space between two layers: where none
    is narrower than x, that is the forward Laplacian's own work. Of convolutions there are closed
    traces that take no row.
    """
    linear = lin.program.linear
    if contains(linear, is_convolution):
        return True
    examples = max(known_size(lin.num_examples), 1)
    return _narrowest(linear) // examples < lin.inputs.size


def _check(linear: Any, most: int) -> None:
    obstacle = _first_obstacle(linear)
    if obstacle is not None:
        raise Unfit(f"no closed form ({obstacle})")
    if contains(linear, is_convolution) and _depth(linear) > most:
        raise Unfit("no closed form (too many convolutions)")


def _first_obstacle(jaxpr: Any, along: list[bool] | None = None) -> Obstacle | None:
    """The first operation on a tangent that no chain has, None where there is none."""
    for equation, places in on_tangents(jaxpr, along):
        if equation.primitive.name in CALLS:
            inner, _ = opened(inner_program(equation))
            obstacle = _first_obstacle(inner, places)
            if obstacle is not None:
                obstacle.place = obstacle.place or place(equation)
                return obstacle
        elif equation.primitive.name not in RULES:
            return Obstacle(equation, Unreadable(equation.primitive.name))
        elif (what := other_form(equation)) is not None:
            return Obstacle(equation, Unreadable(what))
    return None


def _narrowest(jaxpr: Any, along: list[bool] | None = None) -> int:
    """Entries of the smallest array of tangents that is multiplied by what is no number."""
    given = [True] * len(jaxpr.invars) if along is None else along
    entering = zip(jaxpr.invars, given, strict=True)
    found = [known_entries(v.aval.shape) for v, each in entering if each]
    for equation, places in on_tangents(jaxpr, along):
        if equation.primitive.name in CALLS:
            inner, _ = opened(inner_program(equation))
            found.append(_narrowest(inner, places))
        elif equation.primitive.name in _SCALES and all(v.aval.shape for v in equation.invars):
            found.append(known_entries(equation.outvars[0].aval.shape))
    return min(found)


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
