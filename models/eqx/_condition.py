"""A scalar condition (noise level or time) as a shift of each channel of a hidden layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_FREQUENCIES = 16


class Condition(eqx.Module):
    """Sines and cosines of a scalar, then one dense layer for each hidden layer's channels."""

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, widths: tuple[int, ...], *, key: jax.Array):
        keys = jax.random.split(key, max(1, len(widths)))
        self.layers = tuple(
            dense((2 * _FREQUENCIES, width), "lecun_normal", key=key)
            for width, key in zip(widths, keys, strict=False)
        )

    def __call__(self, t: Float[Array, ""]) -> tuple[Float[Array, " C"], ...]:
        """The shifts, one vector a hidden layer."""
        t = jnp.asarray(t)
        if t.ndim:
            raise ValueError(f"The condition t of one example is a scalar, got shape {t.shape}.")
        # Geometric frequencies from 1/4 to 64 tell apart levels from 1e-2 to 10.
        phases = t * 2.0 ** jnp.linspace(-2, 6, _FREQUENCIES, dtype=t.dtype)
        features = jnp.concatenate([jnp.sin(phases), jnp.cos(phases)])
        return tuple(layer(features) for layer in self.layers)


def shifts_of(
    condition: Condition | None, t: Float[Array, ""] | None
) -> tuple[Float[Array, " C"], ...] | None:
    """The shifts of a conditional network, None for one without a condition.

    Raises: ValueError where a condition is missing, or given to a network without one.
    """
    if condition is None and t is None:
        return None
    if condition is None:
        raise ValueError(
            "This network takes no condition: call it as model(x), or build it with "
            "conditional=True."
        )
    if t is None:
        raise ValueError("This network is conditional: call it as model(x, t) with a scalar t.")
    return condition(t)
