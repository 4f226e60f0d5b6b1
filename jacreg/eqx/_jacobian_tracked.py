"""A chain of Equinox layers that tells the Jacobian norm of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

from .._layerwise import LayerwiseLogFrobenius, track_layers
from .._methods import Auto, Method
from ._function import function

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class JacobianTracked(eqx.Module):
    """Layers in a row that return their output and each layer's log Frobenius norm.

    The norms are of each layer's Jacobian at its own input; their sum bounds the
    log norm of the whole from above. One forward pass gives all, and the norms
    are differentiable, so that `tracked.total` may be a penalty
    (`jacreg.losses.layerwise_penalty`).

    The layers run as `jacreg.eqx.function(layer)` has them: BatchNorm by its running
    averages, dropout off, nothing updated.

    Example:
        >>> import jax.numpy as jnp, jacreg.eqx
        >>> tracked = jacreg.eqx.JacobianTracked(lambda x: 2 * x, lambda x: 3 * x)
        >>> y, norms = tracked(jnp.ones(1))
        >>> y, jnp.exp(norms.total).round()
        (Array([6.], dtype=float32), Array(6., dtype=float32))
    """

    layers: tuple[Callable[..., Any], ...]
    method: Any = eqx.field(static=True)

    def __init__(self, *layers: Callable[..., Any], method: Method = Auto()) -> None:
        """Chain the layers.

        Args:
            *layers: Equinox modules or plain functions, of one example.
            method: how to find a Frobenius norm, as for `jacreg.frobenius_squared`.
        """
        self.layers = layers
        self.method = method

    def __call__(
        self,
        x: Float[Array, "*in"],
        running: eqx.nn.State | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*out"], LayerwiseLogFrobenius]:
        """Return the output and `LayerwiseLogFrobenius(per_layer [L], total [])`.

        Args:
            x: one example; `jax.vmap` the call over a batch.
            running: the state of stateful layers, which is read and not changed.
            key: for a stochastic method.

        Raises:
            ValueError: there are no layers, or a stochastic method has no key.
        """
        chain = [self._batched(layer, running) for layer in self.layers]
        ys, tracked = track_layers(chain, jax.tree.map(lambda a: a[None], x), self.method, key=key)
        return jax.tree.map(lambda a: a[0], ys), LayerwiseLogFrobenius(
            tracked.per_layer[:, 0], tracked.total[0]
        )

    def _batched(self, layer: Any, running: Any) -> Callable[..., Any]:
        if not isinstance(layer, eqx.Module):
            return jax.vmap(layer)
        indices = jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, eqx.nn.StateIndex))
        stateful = any(isinstance(index, eqx.nn.StateIndex) for index in indices)
        return function(layer, running if stateful else None)
