"""A Linearization with another tangent map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import jax

from ._guard import with_finite_factors
from ._linearize import Linearization, Mode
from ._program import Program

if TYPE_CHECKING:
    from ._typing import PyTree


def with_tangent_map(
    lin: Linearization,
    fn: Callable[[PyTree], PyTree],
    *,
    xs: PyTree = None,
    value: PyTree = None,
    mode: Mode = "both",
) -> Linearization:
    """A linear function as the Jacobian of a Linearization.

    Args:
        lin: what it shares all but its products with.
        fn: the function.
        xs: of the type of its argument, where that is not the type of `lin.xs`; only products have
            a meaning then.
        value: of the type of its result, where that is not the type of `lin.value`.
        mode: the direction to prefer.
    """
    xs = lin.xs if xs is None else xs
    value = lin.value if value is None else value
    linear = with_finite_factors(jax.make_jaxpr(fn)(xs), jax.tree.leaves(xs))
    old = lin.program
    program = Program(old.jaxpr, linear.jaxpr, old.out_tree, old.has_aux, mode, old.left_out)
    return replace(lin, xs=xs, value=value, residuals=tuple(linear.consts), program=program)
