"""Gaussian noise injection as an Equinox layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx

from .._noise import add_gaussian_noise, check_noise_scale

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class GaussianNoise(eqx.Module):
    """Adds N(0, scale^2) noise to its input in training, nothing in inference.

    Gaussian noise injection (Camuto et al. 2020) puts one behind the input and
    every hidden layer, not behind the output;
    `jacreg.losses.gaussian_noise_regularizer` is its explicit form. Handled as
    `eqx.nn.Dropout` is: `eqx.nn.inference_mode` switches it, and
    `jacreg.eqx.function(model, dropout_key=key)` turns it on with one draw for all calls.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer, x = jacreg.eqx.GaussianNoise(0.1), jnp.ones(2)
        >>> bool((layer(x, key=jax.random.key(0)) == x).any()), layer(x, inference=True)
        (False, Array([1., 1.], dtype=float32))
    """

    scale: float
    inference: bool

    def __init__(self, scale: float, inference: bool = False) -> None:
        """Make the layer.

        Args:
            scale: standard deviation, the same for every entry, at least 0.
            inference: True turns the noise off.

        Raises:
            ValueError: the scale is negative or not finite.
            TypeError: the scale is no number.
        """
        self.scale = check_noise_scale(scale)
        self.inference = inference

    def __call__(
        self,
        x: Float[Array, "*in"],
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
    ) -> Float[Array, "*in"]:
        """Return x + e for one example.

        Raises:
            ValueError: the noise is on and there is no key.
        """
        if inference is None:
            inference = self.inference
        if inference or (isinstance(self.scale, int | float) and self.scale == 0):
            return x
        if key is None:
            raise ValueError(
                "GaussianNoise: the noise is on and there is no key; pass key=..., or use "
                "eqx.nn.inference_mode(model)."
            )
        return add_gaussian_noise(x, self.scale, key)
