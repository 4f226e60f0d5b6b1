"""Path length regularisation of generators (StyleGAN2)."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from .._linearize import Linearization, linearize
from .._probes import draw
from .._structure import example_norm
from ._checks import check_function, check_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def path_length_penalty(
    generator: Callable[[Any], Any],
    latents: Float[Array, "N *in"],
    *,
    key: Array | None,
    mean: Float[Array, ""] | float,
    channel_axis: int | None = -1,
) -> Float[Array, " N"]:
    """Squared deviation of each path length from its running mean, (||J^T y|| - mean)^2.

    y is Gaussian noise in the shape of the image over the root of its number of pixels
    (channels not counted). The running mean is state of the training loop:

        lengths = path_lengths(generator, latents, key=key)
        mean = mean + 0.01 * (jnp.mean(lengths) - mean)
        term = path_length_penalty(generator, latents, key=key, mean=mean)

    where the same key gives the same lengths, computed once under jit. The gradient
    flows through `mean` if it depends on the generator, as in the official code; pass
    `jax.lax.stop_gradient(mean)` for a constant.

    Source: Karras et al. 2020 (StyleGAN2), section 3.2; official weight 2 (pl_weight),
    times the interval where it is applied every so many steps (see `every`). Their
    lengths average squares over the L layers that a latent `[L, w]` feeds: ours are
    sqrt(L) times theirs for such latents.

    Args:
        generator: `[N, *in] -> [N, *image]`.
        latents: `[N, *in]`.
        key: a new one every step.
        mean: running mean of the lengths, a scalar.
        channel_axis: which axis of the image batch holds channels, not counted as
            pixels: -1 for NHWC, 1 for NCHW, None where there is none. An output
            `[N, M]` counts M pixels.

    Returns:
        `[N]`.

    Raises:
        ValueError: the key is missing, the mean is no scalar, the output is no single
            array, or it has no such axis.
        TypeError: the latents or images are not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> zs, key = jnp.ones((1, 1)), jax.random.key(0)
        >>> mean = jacreg.losses.path_lengths(jnp.square, zs, key=key)[0] - 3.0
        >>> jacreg.losses.path_length_penalty(jnp.square, zs, key=key, mean=mean).round()
        Array([9.], dtype=float32)
    """
    who = "path_length_penalty"
    lengths = _lengths(who, generator, latents, key, channel_axis)
    if jnp.ndim(mean) != 0:
        raise ValueError(f"{who}: mean must be a scalar, got shape {jnp.shape(mean)}.")
    return jnp.square(lengths - jnp.asarray(mean, lengths.dtype))


def path_lengths(
    generator: Callable[[Any], Any],
    latents: Float[Array, "N *in"],
    *,
    key: Array | None,
    channel_axis: int | None = -1,
) -> Float[Array, " N"]:
    """Length ||J^T y|| of each example's path, what `path_length_penalty` compares.

    Its mean square is ||J||_F^2 over the number of pixels (Karras et al. 2020).

    Args:
        generator: `[N, *in] -> [N, *image]`.
        latents: `[N, *in]`.
        key: the same as for the penalty gives the same lengths.
        channel_axis: as for `path_length_penalty`.

    Raises:
        ValueError: the key is missing, or the output has no such axis.
        TypeError: the latents or images are not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> zs, key = jnp.ones((1, 10000)), jax.random.key(0)
        >>> jacreg.losses.path_lengths(lambda zs: 3 * zs, zs, key=key).round()
        Array([3.], dtype=float32)
    """
    return _lengths("path_lengths", generator, latents, key, channel_axis)


def _lengths(
    who: str,
    generator: Callable[[Any], Any],
    latents: Any,
    key: Array | None,
    channel_axis: int | None,
) -> Float[Array, " N"]:
    check_function(who, "generator", generator)
    key = check_key(who, key)
    lin = linearize(generator, latents, mode="reverse")
    pixels = _count_pixels(who, lin, channel_axis)
    noise = draw(key, lin.value, "gaussian")
    length = example_norm(lin.vjp(noise)) / max(pixels, 1) ** 0.5
    return length.astype(lin.value.dtype)


def _count_pixels(who: str, lin: Linearization, channel_axis: int | None) -> int:
    if len(lin.outputs.shapes) != 1:
        raise ValueError(
            f"{who}: the generator must return one array of images, got {lin.outputs.describe()}."
        )
    (shape,) = lin.outputs.shapes
    if channel_axis is None or len(shape) < 2:
        return prod(shape)
    rank = len(shape) + 1
    axis = channel_axis + rank if channel_axis < 0 else channel_axis
    if not 1 <= axis < rank:
        raise ValueError(
            f"{who}: channel_axis must be an axis of the images {lin.outputs.describe()} other "
            f"than the batch axis, got {channel_axis}."
        )
    return prod(shape) // max(shape[axis - 1], 1)
