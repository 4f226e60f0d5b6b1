"""Scalar fields, one number an example, and their gradients as vector fields."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from ._errors import DirectionError
from ._linearize import Linearization, check_linearization, linearize


def check_scalar_field(who: str, lin: Linearization) -> None:
    """Check that a Linearization is that of a field `[N, *in] -> [N]`.

    Raises:
        TypeError: it is no Linearization.
        ValueError: it has another shape.
    """
    check_linearization(who, lin)
    if lin.outputs.shapes != ((),):
        raise ValueError(
            f"{who}: the function must return one number an example, [N, *in] -> [N]; got "
            f"{lin.inputs.describe()} -> {lin.outputs.describe()}. "
            f"{_to_one_number(*lin.outputs.shapes)}; for the trace of a square Jacobian use "
            "divergence."
        )


def _to_one_number(*shapes: tuple[int, ...]) -> str:
    if len(shapes) == 1 and prod(shapes[0]) == 1:
        return "Squeeze a trailing axis of length 1"
    return "Select an output, or sum over those of each example (a critic of patches, say)"


def gradient_field(lin: Linearization, weights: Any = None) -> Linearization:
    """The gradient of a scalar field as a vector field; its Jacobian is the Hessian.

    Args:
        lin: of the scalar field.
        weights: in the tree of `xs`, each leaf to be multiplied by the gradient's: the Jacobian is
            then diag(w) H.

    Raises:
        DirectionError: (a TypeError) the field has no reverse mode, so no gradient.
    """
    if lin.no_reverse is not None:
        raise DirectionError(
            f"The gradient of this field, whose derivative is wanted, needs reverse mode, and it "
            f"has none ({lin.no_reverse}). Replace that operation, a lax.while_loop by lax.scan."
        )

    def gradient(xs: Any, *args: Any) -> Any:
        # By a Linearization of its own, so that a factor which a condition leaves out is none of
        # the gradient's either. As JAX wrote it: whoever differentiates it takes his own forms.
        field = linearize(lin.with_constants(lin.constants, args).evaluate, xs, mode="reverse")
        ones = jax.tree.map(jnp.ones_like, field.value)
        (found,) = jax.linear_transpose(field.tangent_map, field.xs)(ones)
        if weights is None:
            return found
        return jax.tree.map(lambda w, g: jnp.asarray(w, g.dtype) * g, weights, found)

    return linearize(gradient, lin.xs, *lin.args, mode="forward")


def linearize_gradient(who: str, fn: Callable[..., Any], xs: Any, *args: Any) -> Linearization:
    """The gradient of a scalar field `[N, *in] -> [N]`, linearised as every quantity does it.

    Raises:
        ValueError: the function does not return one number an example.
        DirectionError: (a TypeError) it has no gradient.
    """
    lin = linearize(fn, xs, *args)
    check_scalar_field(who, lin)
    return gradient_field(lin)
