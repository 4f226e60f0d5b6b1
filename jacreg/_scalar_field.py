"""Gradients of scalar fields, one number an example."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

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
                f"{jnp.shape(ys)}. Squeeze a trailing axis of length 1, or select an output."
            )
        return jnp.sum(ys)

    return jax.grad(total)
