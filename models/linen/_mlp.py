"""Multilayer perceptron as a Flax linen module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax

from jacreg.linen import GaussianNoise

from .._activations import activation, initializer
from .._mlp import MLPSpec

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class MLP(nn.Module):
    """Dense layers with an activation between (see `MLPSpec`): `[N, ...] -> [N, K]`."""

    spec: MLPSpec

    @nn.compact
    def __call__(self, xs: Float[Array, "..."], train: bool = False) -> Float[Array, "N K"]:
        """The outputs of a batch; `train` draws from the rngs "dropout" and "noise"."""
        spec = self.spec
        drop = nn.Dropout(spec.dropout, deterministic=not train)
        noise = GaussianNoise(spec.noise, deterministic=not train)
        layers = [
            nn.Dense(
                shape[-1],
                kernel_init=initializer(spec.initializer),
                param_dtype=jax.dtypes.canonicalize_dtype(float),
                name=name,
            )
            for name, shape in spec.kernel_shapes().items()
        ]
        hs = noise(spec.vectors(xs, batched=True))
        for layer in layers[:-1]:
            hs = noise(drop(activation(spec.activation)(layer(hs))))
        return layers[-1](hs)
