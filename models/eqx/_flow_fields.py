"""Vector fields of continuous flows, with time in every layer (concatsquash)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .._activations import activation
from .._flow_fields import FlowConvSpec, FlowSpec
from .._score import stack_layouts
from ..conv import add_bias
from ._conv import Conv
from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ConcatSquash(eqx.Module):
    """layer(x) * sigmoid(gate(t)) + shift(t), a gate and a shift for each channel.

    Source: Grathwohl et al. 2019 (FFJORD), their "concatsquash" layer.
    """

    layer: eqx.nn.Linear | Conv
    gate: eqx.nn.Linear
    shift: jax.Array

    def __init__(self, layer: eqx.nn.Linear | Conv, features: int, *, key: jax.Array):
        gate_key, shift_key = jax.random.split(key)
        self.layer = layer
        self.gate = dense((1, features), "lecun_normal", key=gate_key)
        self.shift = 0.1 * jax.random.normal(shift_key, (features,))

    def __call__(self, x: Float[Array, "..."], t: Float[Array, ""]) -> Float[Array, "..."]:
        """The layer's output for one example at one time."""
        gate, shift = jax.nn.sigmoid(self.gate(t[None])), self.shift * t
        if isinstance(self.layer, Conv):
            axes = self.layer.layout.example_axes("outputs")
            gate = gate.reshape([-1 if letter == "C" else 1 for letter in axes])
            return add_bias(self.layer(x) * gate, shift, axes)
        return self.layer(x) * gate + shift


class FlowField(eqx.Module):
    """A vector field on vectors (see `FlowSpec`): one example x and its time t -> dx/dt."""

    layers: tuple[ConcatSquash, ...]
    spec: FlowSpec = eqx.field(static=True)

    def __init__(self, spec: FlowSpec, *, key: jax.Array):
        self.spec = spec
        (features,) = spec.input_shape
        widths = (features, *spec.hidden, features)
        keys = jax.random.split(key, 2 * (len(widths) - 1)).reshape(len(widths) - 1, 2, *key.shape)
        self.layers = tuple(
            ConcatSquash(
                dense((widths[i], widths[i + 1]), "glorot_uniform", key=pair[0]),
                widths[i + 1],
                key=pair[1],
            )
            for i, pair in enumerate(keys)
        )

    def __call__(self, x: Float[Array, " D"], t: Float[Array, ""]) -> Float[Array, " D"]:
        """The velocity of one example."""
        if jnp.shape(x) != self.spec.input_shape:
            raise ValueError(
                f"The flow's field takes one vector of shape {self.spec.input_shape}, got "
                f"{jnp.shape(x)}. Use jax.vmap for a batch."
            )
        return _apply(self.layers, self.spec.activation, x, t)


class FlowConvField(eqx.Module):
    """A vector field on images (see `FlowConvSpec`): one image x and its time t -> dx/dt."""

    layers: tuple[ConcatSquash, ...]
    spec: FlowConvSpec = eqx.field(static=True)

    def __init__(self, spec: FlowConvSpec, *, key: jax.Array):
        self.spec = spec
        channels = (spec.input_shape[-1], *spec.widths, spec.input_shape[-1])
        layouts = stack_layouts(spec.layout, len(channels) - 1)
        keys = jax.random.split(key, 2 * len(layouts)).reshape(len(layouts), 2, *key.shape)
        self.layers = tuple(
            ConcatSquash(
                Conv(channels[i], channels[i + 1], spec.kernel_size, layout=layout, key=pair[0]),
                channels[i + 1],
                key=pair[1],
            )
            for i, (layout, pair) in enumerate(zip(layouts, keys, strict=True))
        )

    def __call__(self, x: Float[Array, "..."], t: Float[Array, ""]) -> Float[Array, "..."]:
        """The velocity of one image."""
        self.spec.check(x)
        return _apply(self.layers, self.spec.activation, x, t)


def _apply(layers, name: str, x, t):
    act, t = activation(name), jnp.asarray(t)
    for layer in layers[:-1]:
        x = act(layer(x, t))
    return layers[-1](x, t)
