"""A scalar condition (noise level or time) as a shift of each channel of a hidden layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp

from ._layers import Dense, Layer, Net
from .conv import transpose_axes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_FREQUENCIES = 16


def shift_layers(conditional: bool, widths: Mapping[str, int]) -> dict[str, Layer]:
    """One dense layer for each hidden layer named, from the condition's features to its channels.

    None where the network has no condition.
    """
    if not conditional:
        return {}
    return {f"{name}_shift": Dense(2 * _FREQUENCIES, width) for name, width in widths.items()}


class Shifts:
    """The hidden layers of a network, shifted by its condition where it has one.

    `shifts(name, hs)` is the layer's output plus what `NAME_shift` makes of sines and cosines of
    the condition.
    """

    def __init__(
        self,
        net: Net,
        conditional: bool,
        ts: Float[Array, "..."] | None,
        axes: str,
    ):
        """Arguments:

          net: the layers.
          conditional: whether the network has a condition.
          ts: the condition: `[N]` of a batch, a scalar of one example.
          axes: of the hidden layers' outputs.

        Raises: ValueError where a condition is missing, has another shape, or is given to a
        network without one.
        """
        if ts is not None and not conditional:
            raise ValueError(
                f"This network takes no condition: call it as model({'xs' if net.batched else 'x'})"
                ", or build it with conditional=True."
            )
        if ts is None and conditional:
            call = "model(xs, ts) with ts [N]" if net.batched else "model(x, t) with a scalar t"
            raise ValueError(f"This network is conditional: call it as {call}.")
        self.net, self.axes, self.features = net, axes, None
        if ts is None:
            return
        ts = jnp.asarray(ts)
        if net.batched and ts.ndim != 1:
            raise ValueError(f"The condition of a batch is one number each, got shape {ts.shape}.")
        if not net.batched and ts.ndim:
            raise ValueError(f"The condition t of one example is a scalar, got shape {ts.shape}.")
        # Geometric frequencies from 1/4 to 64 tell apart levels from 1e-2 to 10.
        phases = ts[..., None] * 2.0 ** jnp.linspace(-2, 6, _FREQUENCIES, dtype=ts.dtype)
        self.features = jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], -1)

    def __call__(self, name: str, hs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The shifted output of one layer."""
        ys = self.net.apply(name, hs)
        if self.features is None:
            return ys
        shift = self.net.apply(f"{name}_shift", self.features)
        kept = "".join(letter for letter in self.axes if letter in "NC")
        shift = transpose_axes(shift, "NC" if self.net.batched else "C", kept)
        places = [place for place, letter in enumerate(self.axes) if letter not in "NC"]
        return ys + jnp.expand_dims(shift, places)
