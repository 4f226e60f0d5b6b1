"""Ways to a Hessian's diagonal by the Jacobian of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax

from . import _coloring as colored
from ._chain import check_hessian_readable, convolves, trace_by_closed_form
from ._choice import Choice, Unfit
from ._errors import DirectionError
from ._interpret import contains, mentions
from ._linearize import Linearization
from ._memory import is_symbolic
from ._methods import Auto
from ._recent import Recent
from ._scalar_field import gradient_field
from ._traced import is_traced

if TYPE_CHECKING:
    from ._choice import Way
    from ._typing import PyTree

# Fewer directions take little time, whatever they see.
_LEAST_DIRECTIONS = 128
# Whether it saves anything, of the programs that were seen last.
_SAVES: Recent[bool] = Recent(64)
# A product with the gradient takes the time of so many directions carried forward (1.3 to 1.9 of
# convolutions with group norms on 10 to 28 pixels).
_DIRECTIONS_A_PRODUCT = 2


def of_gradient(
    lin: Linearization, weights: PyTree | None, decide: Callable[[Linearization], Choice]
) -> Choice:
    """What is decided for the gradient.

    Outside of a trace the gradient's derivative would be computed, operation by operation, for a
    choice that reads its program alone; so that is traced, and computed once the choice is run.
    """

    def decided() -> Choice:
        return decide(gradient_field(lin, weights))

    if any(map(is_traced, jax.tree.leaves(lin))):
        return decided()
    found: list[Choice | Exception] = []

    def attempt() -> tuple[()]:
        # Nothing that was traced leaves: neither in what runs the choice nor in an error's frames.
        try:
            found.append(replace(decided(), run=lambda key: decided().run(key)))
        except (Unfit, TypeError, ValueError) as error:
            found.append(type(error)(*error.args))
        return ()

    jax.make_jaxpr(attempt)()
    (outcome,) = found
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def closed_by_convolutions(lin: Linearization, weights: PyTree | None) -> Choice | None:
    """The closed trace of a field of few convolutions, None where there is none.

    The ranking of `Auto()` cannot say this, as it counts operations: of two layers the closed form
    has 1.04 to 1.35 times as many as all directions carried forward, and takes at most 0.6 of
    their time (images of 8 to 16 pixels; of 6, 1.2 times), as those pass through memory.
    """
    if not convolves(lin):
        return None
    try:
        check_hessian_readable(lin)
        return of_gradient(
            lin, weights, lambda gradient: trace_by_closed_form(gradient, Auto(), float("inf"))
        )
    except (Unfit, DirectionError):
        return None


def apart_of_gradient(lin: Linearization, weights: PyTree | None, way: Way) -> Choice | None:
    """Colours of a gradient beside the values that are set apart; None where they save nothing.

    Behind a group norm all directions of a forward Laplacian are carried to the end, which a few
    products with the gradient may undercut.

    Args:
        lin: of the scalar field.
        weights: as for `gradient_field`.
        way: to the trace or the diagonal of the gradient's Jacobian, with values set apart.
    """
    size = lin.inputs.size
    if size < _LEAST_DIRECTIONS or not convolves(lin) or gradient_forgets(lin.program.jaxpr):
        return None
    if is_symbolic(lin.num_examples) or lin.no_reverse is not None or not colored.spreads_few(lin):
        return None
    found: list[Choice] = []

    def saves() -> bool:
        try:
            choice = of_gradient(lin, weights, lambda field: way(field, Auto(), float("inf")))
        except (Unfit, DirectionError):
            return False
        found.append(choice)
        return _DIRECTIONS_A_PRODUCT * choice.num_products < size

    # A gradient that gains nothing is not traced at each call.
    key = colored.structural_key(lin), way, weights is None
    if not _SAVES.get(key, saves):
        return None
    return found[0] if found or saves() else None


def gradient_forgets(jaxpr: Any) -> bool:
    """Whether the derivative of JAX's gradient may not be the second derivative.

    Where JAX before 0.12 takes a loop apart for reverse mode, what it evaluates first has the
    functions with a rule of their own (`jax.custom_jvp`) as they are, without it.
    """

    def with_rule(equation: Any) -> bool:
        return equation.primitive.name == "scan" and mentions(
            equation.params["jaxpr"].jaxpr, "custom_jvp_call"
        )

    return contains(jaxpr, with_rule)
