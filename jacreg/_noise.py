"""Gaussian noise on activations, for the layers of every framework."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


def check_noise_scale(scale: Any) -> float:
    """Return the scale of a noise layer, or raise: a finite number, at least zero."""
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise TypeError(f"GaussianNoise: scale must be a Python number, got {scale!r}.")
    if not (isfinite(scale) and scale >= 0):
        raise ValueError(
            f"GaussianNoise: scale is a standard deviation, finite and at least 0; got {scale}."
        )
    return float(scale)


def add_gaussian_noise(
    x: Float[Array, "*shape"], scale: float, key: PRNGKeyArray
) -> Float[Array, "*shape"]:
    """Return x + e, e ~ N(0, scale^2), in the dtype of x.

    Raises:
        TypeError: `x` is not floating point.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"GaussianNoise: the input must be floating point, got {x.dtype}; cast it first."
        )
    return x + jnp.asarray(scale, x.dtype) * jax.random.normal(key, x.shape, x.dtype)
