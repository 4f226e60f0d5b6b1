"""Bits per dimension, the unit in which image likelihoods are reported."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def bits_per_dimension(
    log_density: Float[Array, " N"], dimensions: int, *, levels: int = 256
) -> Float[Array, " N"]:
    """Bits per dimension of images whose `levels` grey values were dequantised to [0, 1].

    -(log p(x) / dimensions - log(levels)) / log 2: the density of values in [0, levels].

    Arguments:
      log_density: `[N]` in nats, of images scaled to [0, 1].
      dimensions: the number of entries of one image.
      levels: of the original grey values; 1 for data that never were integers.

    Example:
        >>> import jax.numpy as jnp, jacreg.flow
        >>> jacreg.flow.bits_per_dimension(jnp.array([0.0, -8 * jnp.log(2.0)]), 8).round()
        Array([8., 9.], dtype=float32)
    """
    return (math.log(levels) - log_density / dimensions) / math.log(2.0)
