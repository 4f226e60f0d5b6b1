"""Images and other inputs as vectors, for dense networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp

from ._checks import check_floating
from .conv import ConvLayout, flatten


def vectors(network: str, xs, layout: ConvLayout, input_shape: Sequence[int], *, batched: bool):
    """Each example as a vector; images, whose axes are the layout's, in the canonical order.

    Raises TypeError for integer inputs, ValueError for another number of features.
    """
    check_floating(network, xs)
    axes = layout.inputs if batched else layout.example_axes()
    if jnp.ndim(xs) == len(axes):
        flat = flatten(xs, axes)
    else:
        lead = jnp.shape(xs)[:batched]
        flat = jnp.reshape(xs, (*lead, math.prod(jnp.shape(xs)[batched:])))
    features = math.prod(input_shape)
    if flat.ndim != 1 + batched or flat.shape[-1] != features:
        raise ValueError(
            f"{network} takes {features} features an example (input_shape {tuple(input_shape)}), "
            f"got shape {jnp.shape(xs)}{' with a batch axis' if batched else ''}."
        )
    return flat
