"""From raw inputs to what a network takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from train.data import Dataset
    from train.sections import Data


def scaling(
    data: Data, dataset: Dataset, channel_axis: int
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return `raw -> pixels in [0, 1]` and `pixels -> (pixels - mean) / std`."""
    shape = [1] * (1 + len(dataset.input_shape))
    shape[channel_axis] = -1
    mean = np.asarray(data.mean, np.float32).reshape(shape)
    std = np.asarray(data.std, np.float32).reshape(shape)

    def pixels(raw: Any) -> Any:
        raw = jnp.asarray(raw)
        return raw if dataset.pixels is None else dataset.pixels.shares(raw)

    def normalize(values: Any) -> Any:
        return (values - mean) / std

    return pixels, normalize
