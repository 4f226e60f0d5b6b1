"""A network of described layers as an Equinox module, for one example."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jacreg.eqx import GaussianNoise

from .. import _layers as described
from .._layers import Layer, dtype
from .._pooled import activated_max_pool
from ._batch_norm import BatchNorm
from ._conv import Conv
from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Network(eqx.Module):
    """The layers of a specification by name; `forward` says how they follow each other."""

    layers: dict[str, Any]
    dropout: eqx.nn.Dropout
    noise: GaussianNoise
    spec: Any = eqx.field(static=True)

    def __init__(self, spec: Any, *, key: jax.Array):
        self.spec = spec
        layers = spec.layers()
        keys = jax.random.split(key, len(layers))
        self.layers = {
            name: self.make(layer, each)
            for each, (name, layer) in zip(keys, layers.items(), strict=True)
        }
        self.dropout = eqx.nn.Dropout(getattr(spec, "dropout", 0.0))
        self.noise = GaussianNoise(getattr(spec, "noise", 0.0))

    def make(self, layer: Any, key: jax.Array) -> Any:
        """The module of a description."""
        return make_layer(layer, key)

    def named_layers(self) -> dict[str, Any]:
        """The layers with parameters, by their names in the specification."""
        return {name: self.layers[name] for name in self.spec.layers()}


class Classifier(Network):
    """A network of one argument, with or without layers that draw."""

    def __call__(
        self, x: Float[Array, "..."], *, key: jax.Array | None = None
    ) -> Float[Array, " K"]:
        """The outputs of one example; dropout and noise, unless in inference mode, use `key`."""
        return self.spec.forward(Net(self, key), x)


class Staged(Classifier):
    """A network that can be taken layer by layer."""

    def stages(self) -> list[Callable]:
        """The layers as functions of a batch; in inference their composition is the network.

        What `jacreg.layerwise_log_frobenius` takes. Their outputs but the last are the hidden
        layers, after the activation.
        """
        return [jax.vmap(stage) for stage in self.spec.stages(Net(self))]


class Net:
    """`models._layers.Net` of one call of an Equinox network, on one example.

    Attributes:
      state: that of the network; after the call, what its normalisations left there.
    """

    batched = False

    def __init__(
        self, network: Network, key: jax.Array | None = None, state: eqx.nn.State | None = None
    ):
        self.network, self.state = network, state
        self._key, self._drawn = key, 0

    def apply(self, name: str, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The layer's output for one example."""
        layer = self.network.layers[name]
        if self.state is None or not isinstance(layer, BatchNorm):
            return layer(xs)
        ys, self.state = layer(xs, self.state)
        return ys

    def kernel(self, name: str) -> Float[Array, "..."]:
        """The layer's kernel; dense layers of Equinox keep its transpose."""
        layer = self.network.layers[name]
        return layer.weight.T if isinstance(layer, eqx.nn.Linear) else layer.kernel

    def pooled(
        self, name: str, xs: Float[Array, "..."], activation: str, window: int
    ) -> Float[Array, "..."]:
        """Max-pooling of the activation of a convolution."""
        layout = self.network.spec.layout.following
        hs = jnp.expand_dims(self.apply(name, xs), layout.batch_axis)
        return jnp.squeeze(activated_max_pool(hs, activation, window, layout), layout.batch_axis)

    def drop(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Dropout, unless in inference mode."""
        return self.network.dropout(xs, key=self._next_key())

    def noise(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gaussian noise, unless in inference mode."""
        return self.network.noise(xs, key=self._next_key())

    def _next_key(self) -> jax.Array | None:
        """A key for each layer that draws."""
        self._drawn += 1
        return None if self._key is None else jax.random.fold_in(self._key, self._drawn - 1)


class OnlyBias(eqx.Module):
    """Adds a number a feature."""

    bias: jax.Array

    def __init__(self, features: int):
        self.bias = jnp.zeros(features, dtype())

    def __call__(self, x: Float[Array, " C"]) -> Float[Array, " C"]:
        return x + self.bias


def make_layer(layer: Layer, key: jax.Array) -> eqx.Module:
    """The module of a description."""
    match layer:
        case described.Dense():
            return dense((layer.into, layer.out), layer.init, key=key)
        case described.Convolution():
            return Conv(layer.into, layer.out, layer.window, **layer.options, key=key)
        case described.BatchNorm():
            axes = layer.axes.replace("N", "")
            return BatchNorm(layer.features, axes, momentum=layer.momentum, epsilon=layer.epsilon)
        case described.Bias():
            return OnlyBias(layer.features)
    raise TypeError(f"No layer of Equinox for {layer!r}.")
