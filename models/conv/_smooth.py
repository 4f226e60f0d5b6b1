"""Smoothing of signals and images by `convolve`, the simplest use of a convolution."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

import jax.numpy as jnp
import jax.scipy.signal
import jax.scipy.stats
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float


_LARGEST_WINDOW = 28  # entries, as a power of two


def smooth(
    ys: Float[Array, "..."], window: Float[Array, "..."], *, mode: str = "same"
) -> Float[Array, "..."]:
    """Convolve a signal, image or volume with a window of as many dimensions.

    Here the window is flipped, as signal processing defines a convolution; there are no batch
    and channel axes (`jax.vmap` adds them).

    Arguments:
      ys: the signal.
      window: the weights, with as many axes as the signal.
      mode: "same" keeps the signal's size, "valid" the positions that need no zeros, "full" all.

    Raises: ValueError where the numbers of axes differ or the mode is unknown.
    """
    if mode not in ("same", "valid", "full"):
        raise ValueError(f"mode must be 'same', 'valid' or 'full', got {mode!r}.")
    if np.ndim(ys) != np.ndim(window) or not np.ndim(ys):
        raise ValueError(
            f"The window must have as many axes as the signal (at least one), got shapes "
            f"{np.shape(window)} and {np.shape(ys)}. Use jax.vmap for a batch."
        )
    if np.ndim(ys) == 1:
        return jnp.convolve(ys, window, mode=mode)
    return jax.scipy.signal.convolve(ys, window, mode=mode)


def moving_average(ys: Float[Array, " n"], size: int, *, mode: str = "same") -> Float[Array, " m"]:
    """The mean of each `size` neighbours of a one-dimensional signal.

    Beyond its ends the signal counts as zero; use mode "valid" to leave these positions out.
    """
    if not 1 <= operator.index(size) <= 2**_LARGEST_WINDOW:
        raise ValueError(f"size must be at least 1 and at most 2^{_LARGEST_WINDOW}, got {size}.")
    return smooth(ys, jnp.full((size,), 1 / size, jnp.result_type(ys, jnp.float32)), mode=mode)


def gaussian_window(
    scale: float, num_dims: int = 1, *, truncate: float = 3.0
) -> Float[Array, "..."]:
    """A normal density with standard deviation `scale` (in samples) on a grid, summing to 1.

    It reaches `truncate` standard deviations, rounded up to whole samples, to both sides.
    """
    scale, truncate = _positive("scale", scale), _positive("truncate", truncate)
    num_dims = operator.index(num_dims)
    radius = max(1, math.ceil(truncate * scale))
    if num_dims < 1 or num_dims * math.log2(2 * radius + 1) > _LARGEST_WINDOW:
        raise ValueError(
            f"A window needs at least one axis and at most 2^{_LARGEST_WINDOW} entries, got "
            f"{num_dims} axes of {2 * radius + 1} entries."
        )
    density = jax.scipy.stats.norm.pdf(jnp.arange(-radius, radius + 1), scale=scale)
    line = density / density.sum()
    window = line
    for _ in range(num_dims - 1):
        window = window[..., None] * line
    return window


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}.")
    return number


def gaussian_smooth(
    ys: Float[Array, "..."], scale: float, *, truncate: float = 3.0, mode: str = "same"
) -> Float[Array, "..."]:
    """Smooth a signal, image or volume by a Gaussian window of standard deviation `scale`.

    Beyond its borders the signal counts as zero; use mode "valid" to leave these positions out.
    """
    window = gaussian_window(scale, jnp.ndim(ys), truncate=truncate)
    return smooth(ys, window.astype(jnp.result_type(ys)), mode=mode)
