"""From the data to the space of a flow and back, and what that does to a density."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from train.errors import ConfigError
from train.expect import integer, number

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from jacreg.flow import FlowResult
    from train.data import Dataset
    from train.networks import BuiltModel
    from train.sections import Data

Levels = Annotated[int, integer(least=2, most=256)]


@dataclass(frozen=True)
class Pixels:
    """How grey values become numbers that have a density.

    Attributes:
        levels: grey values are rounded to so many, and uniform noise of one level is added:
            the density of the sum bounds the probability of the grey values from below.
        margin: of the logit; None for no logit.
    """

    levels: int
    margin: float | None


def logit(
    *, levels: Levels = 256, margin: Annotated[float, number(above=0, most=0.4)] = 0.05
) -> Pixels:
    """log(s / (1 - s)) with s = margin + (1 - 2 margin) u, of dequantised pixels u in [0, 1]."""
    return Pixels(levels, margin)


def scaled(*, levels: Levels = 256) -> Pixels:
    """(u - data.mean) / data.std of dequantised pixels u in [0, 1]."""
    return Pixels(levels, None)


PIXELS: Mapping[str, Callable[..., Pixels]] = {"logit": logit, "scaled": scaled}


class FlowSpace:
    """The data as a flow takes it: vectors scaled, images dequantised and scaled or logits.

    Densities are meant in the data's own coordinates, those of images in [0, 1].

    Attributes:
        shape: of one example, its axes in the order of the network.
        dimensions: the number of its entries.
        levels: grey values of images, None for anything else.
    """

    def __init__(
        self, data: Data, dataset: Dataset, model: BuiltModel, pixels: Pixels | None
    ) -> None:
        """Prepare for a data set whose axes are in the network's order.

        Raises:
            ConfigError: the options do not fit the data.
        """
        if pixels is not None and not dataset.is_image:
            raise ConfigError(
                f"task.pixels: {dataset.name} has no pixels; leave it out. Vectors are scaled by "
                "data.mean and data.std."
            )
        if dataset.is_image:
            pixels = pixels or logit()
        self.shape = dataset.input_shape
        self.dimensions = math.prod(self.shape)
        self.levels = None if pixels is None else pixels.levels
        self._margin = None if pixels is None else pixels.margin
        self._axes = model.axes
        self._pixels = dataset.pixels
        channels = [1] * (1 + len(self.shape))
        channels[model.channel_axis] = -1
        self._mean = np.asarray(data.mean, np.float32).reshape(channels)
        self._std = np.asarray(data.std, np.float32).reshape(channels)
        if self._margin is not None and not (np.all(self._mean == 0) and np.all(self._std == 1)):
            raise ConfigError(
                "data.mean, data.std: scale pixels, but the flow takes their logits; leave them "
                'out, or set task.pixels = "scaled".'
            )

    def encode(self, raw: Any, key: Array) -> tuple[Float[Array, "N *in"], Float[Array, " N"]]:
        """Return what the network takes, and log |det| of the step from the data there, `[N]`.

        The key draws the noise of images; vectors need none.
        """
        xs = jnp.asarray(raw)
        if self._pixels is not None and self.levels is not None:
            low, high = self._pixels.low, self._pixels.high
            values = xs.astype(jnp.float32) - low if low else xs.astype(jnp.float32)
            steps = jnp.round(values * ((self.levels - 1) / (high - low)))
            xs = (steps + jax.random.uniform(key, xs.shape)) / self.levels
        if self._margin is None:
            volume = -np.sum(np.broadcast_to(np.log(self._std), (1, *self.shape)), dtype=np.float64)
            return (xs - self._mean) / self._std, jnp.full(len(xs), volume, xs.dtype)
        inner = 1 - 2 * self._margin
        shares = self._margin + inner * xs
        slopes = math.log(inner) - jnp.log(shares) - jnp.log1p(-shares)
        return jax.scipy.special.logit(shares), jnp.sum(slopes, axis=tuple(range(1, xs.ndim)))

    def log_density(
        self, field: Callable[..., Any], raw: Any, key: Array, **options: Any
    ) -> tuple[FlowResult, Float[Array, " N"]]:
        """Return what `jacreg.flow.log_density` gives for raw rows, and `encode`'s log |det|."""
        from jacreg.flow import log_density

        noise_key, probe_key = jax.random.split(key)
        zs, volume = self.encode(raw, noise_key)
        return log_density(field, zs, key=probe_key, **options), volume

    def decode(self, zs: Any) -> np.ndarray:
        """Return points of the flow's space as data: images as pixels in [0, 1], `[N, H, W, C]`."""
        zs = np.asarray(zs)
        if self._margin is None:
            xs = zs * self._std + self._mean
        else:
            shares = np.asarray(jax.nn.sigmoid(zs))
            xs = (shares - self._margin) / (1 - 2 * self._margin)
        return self._restored(np.clip(xs, 0, 1) if self.levels is not None else xs)

    def pictured(self, raw: np.ndarray) -> np.ndarray:
        """Return rows of the data set as `decode` gives them."""
        return self._restored(raw if self._pixels is None else self._pixels.shares(raw))

    def _restored(self, xs: np.ndarray) -> np.ndarray:
        return xs if self._axes is None else np.transpose(xs, np.argsort(self._axes))
