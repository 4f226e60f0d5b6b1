"""A network for regression as a function of the data's own coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from train.networks import BuiltModel

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Network:
    """A network as a function of the data's own coordinates, `[N, *in] -> [N, K]`.

    Attributes:
        carries_jacobian: the model returns (y, dy/dx); the function's derivative is then what
            the model returned, not a derivative of y.
    """

    def __init__(
        self, model: BuiltModel, normalize: Callable[[Any], Any], carries_jacobian: bool
    ) -> None:
        self.model = model
        self.normalize = normalize
        self.carries_jacobian = carries_jacobian

    def __call__(self, params: Any, state: Any, xs: Any) -> Float[Array, "N K"]:
        """Return the values in evaluation mode; linearise in `xs` for the Jacobian."""
        return self.apply(params, state, xs)[0]

    def apply(
        self, params: Any, state: Any, xs: Any, train: bool = False, key: Any = None
    ) -> tuple[Float[Array, "N K"], Any]:
        """Return the values, and the model's state after them."""

        def outputs(xs: Any) -> Any:
            return self.model.apply(params, state, xs, train=train, key=key)

        xs = self.normalize(xs)
        if not self.carries_jacobian:
            return outputs(xs)
        (ys, _), state = outputs(jax.lax.stop_gradient(xs))
        return _with_derivative(xs, ys, outputs(xs)[0][1]), state


@jax.custom_jvp
def _with_derivative(xs: Array, ys: Array, jacobian: Array) -> Array:
    """Return `ys`, with `jacobian` for its derivative in `xs`, to every order."""
    return ys


@_with_derivative.defjvp
def _with_derivative_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    _, ys, jacobian = primals
    along_xs, along_ys, _ = tangents
    return ys, along_ys + jnp.einsum("nkd,nd->nk", jacobian, along_xs)
