"""Arguments that work: what the wrong ones take the place of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import jacreg
from models import conv

N, D = 3, 4


class Call(NamedTuple):
    """A function of named arguments and values of them that work.

    The kinds of the values, by name, say what is put in their place.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]


def points(*shape: int) -> np.ndarray:
    """Return the same Gaussian numbers for the same shape, `[N, D]` where none is given."""
    return np.random.default_rng(0).normal(size=shape or (N, D)).astype(np.float32)


W = points(D, D)
KEY = np.asarray([0, 7], np.uint32)


def field(xs: Any) -> Any:
    """Return a vector field, `[N, D] -> [N, D]`."""
    return jnp.tanh(xs @ W)


def scalar(xs: Any) -> Any:
    """Return one number an example."""
    return jnp.sum(jnp.sin(xs) ** 2, axis=-1)


def picture(xs: Any) -> Any:
    """Return images of images with one channel."""
    kernel = jnp.ones((3, 3, 1, 1))
    return jnp.tanh(conv.conv(xs, kernel))


def at(quantity: Callable[..., Any]) -> Callable[..., Any]:
    """Return a quantity of a Linearization as a function of what the Linearization is made of."""

    def call(fn: Any, xs: Any, **arguments: Any) -> Any:
        return quantity(jacreg.linearize(fn, xs), **arguments)

    return call


LIN = {"fn": field, "xs": points()}
MAP = {"key": KEY, "tolerance": 0.1}
