"""Layers in a row in Equinox, with a bound of how far they stretch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

from .._lipschitz._sequential import check_layers, sequential_bound

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class LipschitzSequential(eqx.Module):
    """Layers in a row that say their Lipschitz constant.

    Attributes:
        layers: modules and functions of one example.
        in_shape: shape of one example, or None.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.SLLDense(2, key=jax.random.key(0))
        >>> net = jacreg.eqx.LipschitzSequential([layer, lambda x: 3 * x], in_shape=(2,))
        >>> net.lipschitz_bound().round()
        Array(3., dtype=float32)
    """

    layers: tuple[Callable[..., Any], ...]
    in_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self, layers: Sequence[Callable[..., Any]], *, in_shape: Sequence[int] | None = None
    ) -> None:
        """Keep the layers.

        Args:
            layers: 1-Lipschitz ones, activations, and with `in_shape` any that
                `jacreg.lipschitz_bound` reads.
            in_shape: shape of one example, for the bounds that depend on it.

        Raises:
            TypeError: `layers` is no list of callables.
        """
        self.layers = tuple(check_layers(layers))
        self.in_shape = None if in_shape is None else tuple(in_shape)

    def __call__(
        self, x: Float[Array, "*in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*out"]:
        """Apply the layers one after the other."""
        del key
        for layer in self.layers:
            x = layer(x)
        return x

    def lipschitz_bound(self) -> Float[Array, ""]:
        """The product of the layers' bounds: ||f(x) - f(y)|| <= L ||x - y||.

        Raises:
            ValueError: a layer has no bound, or one that depends on its input's size where
                `in_shape` was not given.
        """
        return sequential_bound(self.layers, self.in_shape, _Batched)


class _Batched:
    """A layer of one example as one of a batch, with its own bound where it has one."""

    def __init__(self, layer: Callable[..., Any]) -> None:
        self.layer = layer
        self.__name__ = getattr(layer, "__name__", type(layer).__name__)
        self.lipschitz_bound = getattr(layer, "lipschitz_bound", None)

    def __call__(self, xs: Array) -> Array:
        return jax.vmap(self.layer)(xs)
