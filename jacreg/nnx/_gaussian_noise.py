"""Gaussian noise injection as an nnx layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flax import nnx

from .._noise import add_gaussian_noise, check_noise_scale

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class GaussianNoise(nnx.Module):
    """Adds N(0, scale^2) noise to its input in training, nothing in evaluation.

    Gaussian noise injection (Camuto et al. 2020) puts one behind the input and
    every hidden layer, not behind the output;
    `jacreg.losses.gaussian_noise_regularizer` is its explicit form. Handled as
    `nnx.Dropout` is: `model.train()` and `model.eval()` switch it, and
    `jacreg.nnx.function(model, dropout_key=key)` turns it on with one draw for all calls.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer, xs = jacreg.nnx.GaussianNoise(0.1, rngs=nnx.Rngs(0)), jnp.ones((1, 2))
        >>> bool((layer(xs) == xs).any()), layer(xs, deterministic=True)
        (False, Array([[1., 1.]], dtype=float32))
    """

    def __init__(
        self,
        scale: float,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "noise",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ) -> None:
        """Make the layer.

        Args:
            scale: standard deviation, the same for every entry, at least 0.
            deterministic: True turns the noise off; what `train` and `eval` set.
            rng_collection: the stream of `rngs` to draw from.
            rngs: random streams; None where they come with each call.

        Raises:
            ValueError: the scale is negative or not finite.
            TypeError: the scale is no number.
        """
        self.scale = check_noise_scale(scale)
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[rng_collection]
        self.rngs = nnx.data(None if rngs is None else rngs.fork())

    def __call__(
        self,
        xs: Float[Array, "N *in"],
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | PRNGKeyArray | None = None,
    ) -> Float[Array, "N *in"]:
        """Return xs + e; arguments that are given go before those of the constructor.

        Raises:
            ValueError: the noise is on and there is no random stream.
        """
        if deterministic is None:
            deterministic = self.deterministic
        if deterministic or self.scale == 0:
            return xs
        rngs = self.rngs if rngs is None else rngs
        if rngs is None:
            raise ValueError(
                "GaussianNoise: the noise is on and there is no random stream; pass "
                "rngs=nnx.Rngs(noise=0) to the constructor or to the call, or use model.eval()."
            )
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[self.rng_collection]
        key = rngs() if isinstance(rngs, nnx.RngStream) else rngs
        return add_gaussian_noise(xs, self.scale, key)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the mode, for `nnx.view`."""
        if deterministic is not None:
            self.deterministic = deterministic
