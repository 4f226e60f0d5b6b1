"""Corruptions of an input for denoising: a row makes `(xs, key) -> xs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp

from train.expect import number

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    Corrupt = Callable[[Float[Array, "N D"], Array], Float[Array, "N D"]]


def none() -> Corrupt:
    """The input as it is."""
    return lambda xs, key: xs


def gaussian(*, scale: Annotated[float, number(above=0)]) -> Corrupt:
    """Add N(0, scale^2), in the units of the normalised input."""
    return lambda xs, key: xs + scale * jax.random.normal(key, xs.shape, xs.dtype)


def masking(*, fraction: Annotated[float, number(above=0, most=0.99)]) -> Corrupt:
    """Set each entry to 0 with this probability."""
    return lambda xs, key: jnp.where(jax.random.bernoulli(key, fraction, xs.shape), 0, xs)


CORRUPTIONS: Mapping[str, Callable[..., Any]] = {
    "none": none,
    "gaussian": gaussian,
    "masking": masking,
}
