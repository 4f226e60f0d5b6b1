"""A small convolution as products with a banded matrix, for a CPU.

XLA's CPU convolutions with few channels are slow where they are differentiated twice, as a
Jacobian penalty does. Convolutions with more channels, or 3x3 windows, gained nothing or lost, so
`is_banded` is narrow.

What stands here is linear in both operands, and transposes to the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ._canonical_convolution import from_canonical, to_canonical

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def is_banded(images: Any, kernel: Any, params: Mapping[str, Any]) -> bool:
    """Whether the convolution of such arrays is one that this form is faster for."""
    numbers = params["dimension_numbers"]
    out, into, *offsets = numbers.rhs_spec
    sizes = zip(numbers.lhs_spec[2:], params["padding"], offsets, strict=True)
    return (
        len(offsets) == 2
        and 0 not in images.shape
        and all(images.shape[a] + sum(ends) >= kernel.shape[b] for a, ends, b in sizes)
        and images.dtype == kernel.dtype
        and images.dtype in (jnp.float32, jnp.float64)
        and params["preferred_element_type"] in (None, images.dtype)
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and all(
            set(params[name]) == {1} for name in ("window_strides", "lhs_dilation", "rhs_dilation")
        )
        and all(end >= 0 for pair in params["padding"] for end in pair)
        and all(5 <= kernel.shape[axis] <= 7 for axis in offsets)
        and kernel.shape[out] <= 16
        and kernel.shape[into] * kernel.shape[out] <= 128
    )


def convolve_banded(
    images: Float[Array, "..."], kernel: Float[Array, "..."], params: Mapping[str, Any]
) -> Float[Array, "..."]:
    """Return what `conv_general_dilated` with these parameters gives, as one product.

    A block of `block` outputs in a row depends on `block + width - 1` columns of as many rows as
    the kernel has. Seen as a vector, it is multiplied by a matrix that holds the kernel in
    `block` shifted copies (banded, Toeplitz) and is the same for every block.
    """
    numbers = params["dimension_numbers"]
    images, kernel = to_canonical(images, kernel, numbers)
    height, width, channels, features = kernel.shape
    num_examples = images.shape[0]
    images = jnp.pad(images, ((0, 0), *params["padding"], (0, 0)))
    out_height, out_width = images.shape[1] - height + 1, images.shape[2] - width + 1
    # Wide rows go in blocks, so that at most half of the band's products are with zeros.
    block = out_width if out_width <= 2 * width else max(1, width - 1)
    num_blocks = -(-out_width // block)
    span = block + width - 1
    overhang = num_blocks * block + width - 1 - images.shape[2]
    images = jnp.pad(images, ((0, 0), (0, 0), (0, overhang), (0, 0)))
    blocks = jnp.stack(
        [
            images[:, :, i * block : i * block + span].reshape(*images.shape[:2], span * channels)
            for i in range(num_blocks)
        ],
        axis=2,
    )
    patches = jnp.concatenate([blocks[:, i : i + out_height] for i in range(height)], axis=-1)
    band = jnp.einsum("ijco,jsb->iscbo", kernel, _shifts(width, block, kernel.dtype))
    # Of two axes: with more, XLA transposes the patches for the kernel's gradient.
    patches = patches.reshape(-1, height * span * channels)
    outs = patches @ band.reshape(height * span * channels, block * features)
    outs = outs.reshape(num_examples, out_height, num_blocks * block, features)[:, :, :out_width]
    return from_canonical(outs, numbers)


def _shifts(width: int, block: int, dtype: Any) -> np.ndarray:
    """`[width, block + width - 1, block]`, one where column = output + offset in the kernel."""
    shifts = np.zeros((width, block + width - 1, block), dtype)
    for offset in range(width):
        shifts[offset, np.arange(block) + offset, np.arange(block)] = 1
    return shifts
