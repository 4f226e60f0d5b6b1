"""Scalar fields, one number an example, and their gradients as vector fields."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._linearize import Linearization, check_linearization, linearize

if TYPE_CHECKING:
    from jaxtyping import Array


def scalar_field_gradient(who: str, fn: Callable[..., Array]) -> Callable[..., Array]:
    """Gradient `[N, *in] -> [N, *in]` of a field `[N, *in] -> [N]` with independent rows."""

    def total(xs: Any, *args: Any) -> Array:
        ys = fn(xs, *args)
        num_examples = jnp.shape(jax.tree.leaves(xs)[0])[0]
        if jnp.shape(ys) != (num_examples,):
            raise ValueError(
                f"{who}: fn must return one number an example, shape ({num_examples},); got "
                f"{jnp.shape(ys)}. {_to_one_number(jnp.shape(ys)[1:])}."
            )
        return jnp.sum(ys)

    return jax.grad(total)


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
    """

    def total(xs: Any, args: tuple[Any, ...]) -> Array:
        (value,) = jax.tree.leaves(lin.with_constants(lin.constants, args).evaluate(xs))
        return jnp.sum(value)

    def gradient(xs: Any, *args: Any) -> Any:
        found = jax.grad(total)(xs, args)
        if weights is None:
            return found
        return jax.tree.map(lambda w, g: jnp.asarray(w, g.dtype) * g, weights, found)

    return linearize(gradient, lin.xs, *lin.args, mode="forward")
