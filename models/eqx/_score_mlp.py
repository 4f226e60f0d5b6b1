"""A score network on vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .._activations import activation
from .._score import ScoreMLPSpec
from ._condition import Condition, shifts_of
from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ScoreMLP(eqx.Module):
    """A score field on vectors (see `ScoreMLPSpec`): `[D] -> [D]`."""

    layers: tuple[eqx.nn.Linear, ...]
    condition: Condition | None
    spec: ScoreMLPSpec = eqx.field(static=True)

    def __init__(self, spec: ScoreMLPSpec, *, key: jax.Array):
        self.spec = spec
        (features,) = spec.input_shape
        widths = (features, *spec.hidden, 1 if spec.potential else features)
        keys = jax.random.split(key, len(widths))
        self.layers = tuple(
            dense((widths[i], widths[i + 1]), spec.initializer, key=keys[i])
            for i in range(len(widths) - 1)
        )
        self.condition = Condition(spec.hidden, key=keys[-1]) if spec.conditional else None

    def outputs(
        self, x: Float[Array, " D"], t: Float[Array, ""] | None = None
    ) -> Float[Array, " K"]:
        """What the dense layers return: the score, or the potential `[1]`."""
        if jnp.shape(x) != self.spec.input_shape:
            raise ValueError(
                f"The score network takes one vector of shape {self.spec.input_shape}, got "
                f"{jnp.shape(x)}. Use jax.vmap for a batch."
            )
        act = activation(self.spec.activation)
        shifts = shifts_of(self.condition, t)
        for index, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            x = act(x if shifts is None else x + shifts[index])
        return self.layers[-1](x)

    def __call__(
        self, x: Float[Array, " D"], t: Float[Array, ""] | None = None
    ) -> Float[Array, " D"]:
        """The score of one vector; `t` is the noise level or time of a conditional network."""
        if self.spec.potential:
            return jax.grad(lambda x: self.outputs(x, t)[0])(x)
        return self.outputs(x, t)
