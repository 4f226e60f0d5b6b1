"""A chain of nnx layers that tells the Jacobian norm of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flax import nnx

from .._layerwise import LayerwiseLogFrobenius, track_layers
from .._methods import Auto, Method
from ._function import function

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class JacobianTracked(nnx.Module):
    """Layers in a row that return their output and each layer's log Frobenius norm.

    The norms are of each layer's Jacobian at its own input; their sum bounds the
    log norm of the whole from above. One forward pass gives all, and the norms
    are differentiable, so that `tracked.total` may be a penalty
    (`jacreg.losses.layerwise_penalty`).

    The layers run as `jacreg.nnx.function(layer)` has them: BatchNorm by its running
    averages, dropout off, nothing updated.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> tracked = jacreg.nnx.JacobianTracked(lambda xs: 2 * xs, lambda xs: 3 * xs)
        >>> ys, norms = tracked(jnp.ones((1, 1)))
        >>> ys, jnp.exp(norms.total).round()
        (Array([[6.]], dtype=float32), Array([6.], dtype=float32))
    """

    def __init__(self, *layers: Callable[..., Any], method: Method = Auto()) -> None:
        """Chain the layers.

        Args:
            *layers: nnx modules or plain functions, on batches.
            method: how to find a Frobenius norm, as for `jacreg.frobenius_squared`.
        """
        self.layers = nnx.List(layers)
        self.method = method

    def __call__(
        self, xs: Float[Array, "N *in"], *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " N *out"], LayerwiseLogFrobenius]:
        """Return the output and `LayerwiseLogFrobenius(per_layer [L, N], total [N])`.

        Args:
            xs: the batch.
            key: for a stochastic method.

        Raises:
            ValueError: there are no layers, or a stochastic method has no key.
        """
        chain = [
            function(layer) if isinstance(layer, nnx.Module) else layer for layer in self.layers
        ]
        return track_layers(chain, xs, self.method, key=key)
