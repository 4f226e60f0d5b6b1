"""A network of described layers as a Flax nnx module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from jacreg.nnx import GaussianNoise

from .._layers import BatchNorm, Bias, Convolution, Dense, Layer, dtype
from .._pooled import activated_max_pool
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Network(nnx.Module):
    """The layers of a specification, each an attribute; `forward` says how they follow each other.

    With a `dropout` or `noise` of the specification there is a layer of that name for it.
    """

    def __init__(self, spec: Any, *, rngs: nnx.Rngs):
        self.spec = spec
        for name, layer in spec.layers().items():
            setattr(self, name, self.make(layer, rngs))
        rate, scale = getattr(spec, "dropout", 0.0), getattr(spec, "noise", 0.0)
        self.dropout = nnx.Dropout(rate, rngs=rngs) if rate else None
        self.noise = GaussianNoise(scale, rngs=rngs) if scale else None

    def make(self, layer: Any, rngs: nnx.Rngs) -> Any:
        """The module of a description."""
        return make_layer(layer, rngs)

    def named_layers(self) -> dict[str, Any]:
        """The layers with parameters, by their names in the specification."""
        return {name: getattr(self, name) for name in self.spec.layers()}


class Classifier(Network):
    """A network of one argument."""

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "N K"]:
        """The outputs of a batch, its axes those of the layout."""
        return self.spec.forward(Net(self), xs)


class Staged(Classifier):
    """A network that can be taken layer by layer."""

    def stages(self) -> list[Callable]:
        """The layers as functions of a batch; in evaluation their composition is the network.

        What `jacreg.layerwise_log_frobenius` takes, for a layout whose batch axis is the first.
        Their outputs but the last are the hidden layers, after the activation.
        """
        return self.spec.stages(Net(self))


class Net:
    """`models._layers.Net` of an nnx network: arrays have the batch axis."""

    batched = True

    def __init__(self, network: Network):
        self.network = network

    def apply(self, name: str, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The layer's output for a batch; batch normalisation keeps its own statistics."""
        return getattr(self.network, name)(xs)

    def kernel(self, name: str) -> Float[Array, "..."]:
        """The layer's kernel."""
        return getattr(self.network, name).kernel[...]

    def pooled(
        self, name: str, xs: Float[Array, "..."], activation: str, window: int
    ) -> Float[Array, "..."]:
        """Max-pooling of the activation of a convolution."""
        inner = self.network.spec.layout.following
        return activated_max_pool(self.apply(name, xs), activation, window, inner)

    def drop(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Dropout, where the network has it."""
        return xs if self.network.dropout is None else self.network.dropout(xs)

    def noise(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gaussian noise, where the network has it."""
        return xs if self.network.noise is None else self.network.noise(xs)


class OnlyBias(nnx.Module):
    """Adds a number a feature."""

    def __init__(self, features: int):
        self.bias = nnx.Param(jnp.zeros(features, dtype()))

    def __call__(self, xs: Float[Array, "N C"]) -> Float[Array, "N C"]:
        return xs + self.bias[...]


def make_layer(layer: Layer, rngs: nnx.Rngs) -> nnx.Module:
    """The module of a description."""
    kind: Any = dtype()
    match layer:
        case Dense():
            return nnx.Linear(
                layer.into,
                layer.out,
                kernel_init=layer.kernel_init,
                param_dtype=kind,
                rngs=rngs,
            )
        case Convolution():
            return Conv(layer.into, layer.out, layer.window, **layer.options, rngs=rngs)
        case BatchNorm():
            norm = nnx.BatchNorm(
                layer.features,
                axis=layer.axes.index("C"),
                momentum=layer.momentum,
                epsilon=layer.epsilon,
                param_dtype=kind,
                rngs=rngs,
            )
            # Flax keeps these in single precision whatever param_dtype is.
            norm.mean = nnx.BatchStat(jnp.zeros(layer.features, kind))
            norm.var = nnx.BatchStat(jnp.ones(layer.features, kind))
            return norm
        case Bias():
            return OnlyBias(layer.features)
    raise TypeError(f"No layer of nnx for {layer!r}.")
