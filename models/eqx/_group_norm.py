"""Group normalisation in any layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class GroupNorm(eqx.Module):
    """Normalise each group of channels of one example over space, then scale and shift.

    Source: Wu and He 2018.
    """

    scale: jax.Array
    shift: jax.Array
    axes: str = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __init__(self, channels: int, groups: int, axes: str):
        dtype = jax.dtypes.canonicalize_dtype(float)
        self.scale, self.shift = jnp.ones(channels, dtype), jnp.zeros(channels, dtype)
        self.axes, self.groups = axes, groups

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The normalised example, axes as `axes`."""
        place = self.axes.index("C")
        split = (*x.shape[:place], self.groups, -1, *x.shape[place + 1 :])
        grouped = x.reshape(split)
        over = tuple(axis for axis in range(grouped.ndim) if axis != place)
        mean = jnp.mean(grouped, over, keepdims=True)
        variance = jnp.var(grouped, over, keepdims=True)
        normal = ((grouped - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        shape = [-1 if letter == "C" else 1 for letter in self.axes]
        return normal * self.scale.reshape(shape) + self.shift.reshape(shape)
