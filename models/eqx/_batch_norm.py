"""Batch normalisation in any layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .._layers import dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class BatchNorm(eqx.Module):
    """Batch normalisation of one example in any layout, under a `jax.vmap` with this axis name.

    With the arithmetic and the running statistics of `flax.nnx.BatchNorm`. `equinox.nn.BatchNorm`
    keeps others: in evaluation it divides the running variance by 1 - momentum^count, although
    that begins at 1, and channels must be its first axis. Source: Ioffe and Szegedy 2015.
    """

    scale: jax.Array
    bias: jax.Array
    statistics: eqx.nn.StateIndex
    inference: bool
    axes: str = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)
    axis_name: str = eqx.field(static=True)

    def __init__(
        self,
        features: int,
        axes: str,
        *,
        momentum: float,
        epsilon: float,
        axis_name: str = "batch",
    ):
        """Arguments: `axes` are those of one example, with a C; the others as the description's."""
        zeros, ones = jnp.zeros(features, dtype()), jnp.ones(features, dtype())
        self.scale, self.bias = ones, zeros
        self.statistics = eqx.nn.StateIndex((zeros, ones))
        self.inference = False
        self.axes, self.momentum, self.epsilon = axes, momentum, epsilon
        self.axis_name = axis_name

    def __call__(
        self, x: Float[Array, "..."], state: eqx.nn.State
    ) -> tuple[Float[Array, "..."], eqx.nn.State]:
        """The normalised example, and the state with the new running statistics in training."""
        old = state.get(self.statistics)
        mean, var = old
        if not self.inference:
            space = tuple(place for place, letter in enumerate(self.axes) if letter != "C")
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            mean = lax.pmean(jnp.mean(wide, space), self.axis_name)
            square = lax.pmean(jnp.mean(wide**2, space), self.axis_name)
            var = jnp.maximum(square - mean**2, 0)
            new = [
                (self.momentum * past + (1 - self.momentum) * now).astype(past.dtype)
                for past, now in zip(old, (mean, var), strict=True)
            ]
            state = state.set(self.statistics, tuple(new))
        shape = [-1 if letter == "C" else 1 for letter in self.axes]
        gain = lax.rsqrt(var + self.epsilon) * self.scale
        y = (x - mean.reshape(shape)) * gain.reshape(shape) + self.bias.reshape(shape)
        return y.astype(jnp.result_type(x, self.scale)), state
