"""Gaussian noise injection as a linen layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flax import linen as nn

from .._noise import add_gaussian_noise, check_noise_scale

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class GaussianNoise(nn.Module):
    """Adds N(0, scale^2) noise to its input in training, nothing where `deterministic`.

    Gaussian noise injection (Camuto et al. 2020) puts one behind the input and
    every hidden layer, not behind the output;
    `jacreg.losses.gaussian_noise_regularizer` is its explicit form. Handled as
    `nn.Dropout` is; `jacreg.linen.function(model, variables, dropout_key=key)` turns it
    on with one draw for all calls.

    Attributes:
        scale: standard deviation, the same for every entry, at least 0.
        deterministic: True turns the noise off; here or at the call.
        rng_collection: the stream to draw from.

    Raises:
        ValueError: the scale is negative or not finite.
        TypeError: the scale is no number.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.linen
        >>> layer, xs = jacreg.linen.GaussianNoise(0.1), jnp.ones((1, 2))
        >>> layer.apply({}, xs, deterministic=True)
        Array([[1., 1.]], dtype=float32)
        >>> bool((layer.apply({}, xs, False, rngs={"noise": jax.random.key(0)}) == xs).any())
        False
    """

    scale: float
    deterministic: bool | None = None
    rng_collection: str = "noise"

    def __post_init__(self) -> None:
        check_noise_scale(self.scale)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, xs: Float[Array, "N *in"], deterministic: bool | None = None
    ) -> Float[Array, "N *in"]:
        """Return xs + e; whether it is off is said here or by the field, not by both."""
        off = nn.merge_param("deterministic", self.deterministic, deterministic)
        if off or self.scale == 0:
            return xs
        return add_gaussian_noise(xs, self.scale, self.make_rng(self.rng_collection))
