"""Activations and dense initialisers that a config can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from jacreg._nearest import unknown

ACTIVATIONS: dict[str, Callable] = {
    "cos": jnp.cos,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}

INITIALIZERS: dict[str, Callable] = {
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
}

# An option by name, annotated with the names that there are.
Activation = Annotated[str, tuple(ACTIVATIONS)]
Initializer = Annotated[str, tuple(INITIALIZERS)]


def activation(name: str) -> Callable:
    """The elementwise function of that name. Raises: ValueError that names the known ones."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def initializer(name: str) -> Callable:
    """The initialiser of that name, for kernels whose last axes are in and out channels.

    Raises: ValueError that names the known ones.
    """
    if name not in INITIALIZERS:
        raise unknown("initializer", name, INITIALIZERS)
    return INITIALIZERS[name]
