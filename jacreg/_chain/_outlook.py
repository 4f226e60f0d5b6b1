"""What tells early that a Jacobian is no sum of chains, or that a Hessian's would gain nothing."""

from __future__ import annotations

from typing import Any

import jax
import jax.extend.core as jex

from .._choice import Unfit
from .._convolution import is_convolution
from .._interpret import CALLS, contains, inner_program, on_tangents, opened
from .._linearize import Linearization
from .._memory import known_entries, known_size
from .._source import place
from ._bends import bends, is_layer
from ._chain import Unreadable
from ._read import RULES, Obstacle, other_form

# Of convolutions a closed way has at most four (`local_trace`).
_MOST_CONVOLUTIONS = 4
_TOO_MANY = "no closed form (too many convolutions)"
_SCALES = ("mul", "div", "select_n")


def check_readable(lin: Linearization) -> None:
    """Leave where a Jacobian cannot be a sum of chains, before any of it is traced.

    Raises:
        Unfit: it cannot.
    """
    linear = lin.program.linear
    _check_rules(lin)
    if contains(linear, is_convolution) and _depth(linear) > _MOST_CONVOLUTIONS:
        raise Unfit(_TOO_MANY)


def check_hessian_readable(lin: Linearization) -> None:
    """Leave where the Hessian of a scalar field cannot be a sum of chains.

    Tangents of the gradient pass through the layers that those of the field pass through, so an
    operation of its linear program that no chain has is in the gradient's too. A second derivative
    comes back through all layers that lead to it.

    Raises:
        Unfit: it cannot.
    """
    _check_rules(lin)
    if not convolves(lin):
        return
    bent = bends(lin.program.closed(lin.constants).jaxpr, len(jax.tree.leaves(lin.xs)))
    if 2 * bent.layers > _MOST_CONVOLUTIONS:
        raise Unfit(_TOO_MANY)
    if bent.joined:
        raise Unfit("no closed form (a padding by other entries, taken apart on the way back)")


def convolves(lin: Linearization) -> bool:
    """Whether tangents pass through a convolution."""
    return contains(lin.program.linear, is_convolution)


def may_save(lin: Linearization) -> bool:
    """Whether a closed form of a Laplacian may take less than all directions carried forward.

    Of matrices it takes a row for each entry of the narrowest space between two layers: where none
    is narrower than x, that is the forward Laplacian's own work.
    """
    examples = max(known_size(lin.num_examples), 1)
    narrowest = _narrowest(lin.program.linear, lin.program.tangents)
    return narrowest // examples < lin.inputs.size


def _check_rules(lin: Linearization) -> None:
    obstacle = _first_obstacle(lin.program.linear, lin.program.tangents)
    if obstacle is not None:
        raise Unfit(f"no closed form ({obstacle})")


def _first_obstacle(jaxpr: Any, along: list[bool]) -> Obstacle | None:
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


def _narrowest(jaxpr: Any, along: list[bool]) -> int:
    """Entries of the smallest array of tangents that is multiplied by what is no number."""
    entering = zip(jaxpr.invars, along, strict=True)
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
        own = is_layer(equation)
        if equation.primitive.name in CALLS:
            own = max(map(_depth, jex.jaxprs_in_params(equation.params)), default=0)
        for variable in equation.outvars:
            depth[variable] = max(behind, default=0) + own
    return max(depth.values(), default=0)
