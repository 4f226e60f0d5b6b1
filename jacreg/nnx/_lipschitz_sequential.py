"""Layers in a row in nnx, with a bound of how far they stretch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flax import nnx

from .._lipschitz._sequential import check_layers, sequential_bound

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LipschitzSequential(nnx.Module):
    """Layers in a row that say their Lipschitz constant.

    Attributes:
        layers: modules and functions of a batch.
        in_shape: shape of one input, or None.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.SLLDense(2, rngs=nnx.Rngs(0))
        >>> net = jacreg.nnx.LipschitzSequential([layer, lambda xs: 3 * xs], in_shape=(2,))
        >>> net.lipschitz_bound().round()
        Array(3., dtype=float32)
    """

    def __init__(
        self, layers: Sequence[Callable[..., Any]], *, in_shape: Sequence[int] | None = None
    ) -> None:
        """Keep the layers.

        Args:
            layers: 1-Lipschitz ones, activations, and with `in_shape` any that
                `jacreg.lipschitz_bound` reads.
            in_shape: shape of one input without the batch axis, for the bounds that depend on it.

        Raises:
            TypeError: `layers` is no list of callables.
        """
        self.layers = nnx.List(check_layers(layers))
        self.in_shape = None if in_shape is None else tuple(in_shape)

    def __call__(self, xs: Float[Array, "N *in"]) -> Float[Array, " N *out"]:
        """Apply the layers one after the other."""
        for layer in self.layers:
            xs = layer(xs)
        return xs

    def lipschitz_bound(self) -> Float[Array, ""]:
        """The product of the layers' bounds: ||f(x) - f(y)|| <= L ||x - y||.

        Raises:
            ValueError: a layer has no bound, or one that depends on its input's size where
                `in_shape` was not given.
        """
        return sequential_bound(list(self.layers), self.in_shape)
