"""Multilayer perceptron as a Flax nnx module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from flax import nnx

from jacreg.nnx import GaussianNoise

from .._activations import activation, initializer
from .._mlp import MLPSpec

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class MLP(nnx.Module):
    """Dense layers with an activation between (see `MLPSpec`): `[N, ...] -> [N, K]`."""

    def __init__(self, spec: MLPSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        dtype = jax.dtypes.canonicalize_dtype(float)
        kernel_init = initializer(spec.initializer)
        self.layers = nnx.List(
            nnx.Linear(*shape, kernel_init=kernel_init, param_dtype=dtype, rngs=rngs)
            for shape in spec.kernel_shapes().values()
        )
        self.dropout = nnx.Dropout(spec.dropout, rngs=rngs) if spec.dropout else None
        self.noise = GaussianNoise(spec.noise, rngs=rngs) if spec.noise else None

    def named_layers(self) -> dict[str, nnx.Module]:
        """The layers with parameters, by their names in `MLPSpec.kernel_shapes`."""
        return dict(zip(self.spec.kernel_shapes(), self.layers, strict=True))

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "N K"]:
        """The outputs of a batch of vectors, or of images in the layout."""
        noise, drop = (layer or _same for layer in (self.noise, self.dropout))
        act = activation(self.spec.activation)
        hs = noise(self.spec.vectors(xs, batched=True))
        for layer in self.layers[:-1]:
            hs = noise(drop(act(layer(hs))))
        return self.layers[-1](hs)

    def stages(self) -> list[Callable]:
        """The layers as functions of a batch; in evaluation their composition is the network.

        What `jacreg.layerwise_log_frobenius` takes. Their outputs but the last are the hidden
        layers, after the activation.
        """
        act = activation(self.spec.activation)
        stages: list[Callable] = [lambda hs, layer=layer: act(layer(hs)) for layer in self.layers]
        stages[-1] = self.layers[-1]
        first = stages[0]
        return [lambda xs: first(self.spec.vectors(xs, batched=True)), *stages[1:]]


def _same(hs):
    return hs
