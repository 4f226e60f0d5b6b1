"""Multilayer perceptron as an Equinox module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax

from jacreg.eqx import GaussianNoise

from .._activations import activation
from .._mlp import MLPSpec
from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class MLP(eqx.Module):
    """Dense layers with an activation between (see `MLPSpec`), for one example."""

    layers: tuple[eqx.nn.Linear, ...]
    dropout: eqx.nn.Dropout
    noise: GaussianNoise
    spec: MLPSpec = eqx.field(static=True)

    def __init__(self, spec: MLPSpec, *, key: jax.Array):
        self.spec = spec
        shapes = spec.kernel_shapes().values()
        keys = jax.random.split(key, len(shapes))
        self.layers = tuple(
            dense(shape, spec.initializer, key=key) for shape, key in zip(shapes, keys, strict=True)
        )
        self.dropout = eqx.nn.Dropout(spec.dropout)
        self.noise = GaussianNoise(spec.noise)

    def named_layers(self) -> dict[str, eqx.Module]:
        """The layers with parameters, by their names in `MLPSpec.kernel_shapes`."""
        return dict(zip(self.spec.kernel_shapes(), self.layers, strict=True))

    def __call__(
        self, x: Float[Array, "..."], *, key: jax.Array | None = None
    ) -> Float[Array, " K"]:
        """The outputs of one vector or image; dropout, unless in inference mode, uses `key`."""
        act = activation(self.spec.activation)
        h = self.noise(self.spec.vectors(x, batched=False), key=_fold(key, 0))
        for index, layer in enumerate(self.layers[:-1], start=1):
            h = self.dropout(act(layer(h)), key=_fold(key, 2 * index))
            h = self.noise(h, key=_fold(key, 2 * index + 1))
        return self.layers[-1](h)

    def stages(self) -> list[Callable]:
        """The layers as functions of a batch; in inference their composition is the network.

        What `jacreg.layerwise_log_frobenius` takes. Their outputs but the last are the hidden
        layers, after the activation.
        """
        act = activation(self.spec.activation)
        stages: list[Callable] = [lambda h, layer=layer: act(layer(h)) for layer in self.layers]
        stages[-1] = self.layers[-1]
        first = stages[0]
        stages[0] = lambda x: first(self.spec.vectors(x, batched=False))
        return [jax.vmap(stage) for stage in stages]


def _fold(key: jax.Array | None, index: int) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, index)
