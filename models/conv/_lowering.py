"""A faster form of small two-dimensional convolutions on CPU: products with a banded matrix.

XLA's CPU convolutions with few channels are slow where they are differentiated twice, as a
Jacobian penalty does. A training step of LeNet' (batch 100, two cores) with one projection took
38 ms by `lax.conv_general_dilated` and 13 ms by the form below; without the penalty, 14 and 8.
Convolutions with more channels, or 3x3 windows, gained nothing or lost, so `_pays` is narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ._layout import ConvLayout, transpose_axes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Lowering = Literal["definition", "auto"]


def lowered_conv(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    layout: ConvLayout,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lowering: Lowering,
) -> Float[Array, "..."] | None:
    """The convolution as banded products where that pays on this platform, else None.

    Arguments as `conv` has them after its checks, without dilation and groups.

    Raises: ValueError for an unknown lowering.
    """
    if not is_lowered(xs, kernel, layout, strides, padding, lowering):
        return None
    return banded_conv(xs, kernel, layout, padding)


def is_lowered(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    layout: ConvLayout,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lowering: Lowering,
) -> bool:
    """Whether a matrix product is asked for and pays on this platform.

    Raises: ValueError for an unknown lowering.
    """
    if lowering not in ("definition", "auto"):
        raise ValueError(f"lowering must be 'definition' or 'auto', got {lowering!r}.")
    if lowering == "definition" or jax.default_backend() != "cpu":
        return False
    sizes = dict(zip(layout.kernel, kernel.shape, strict=True))
    return _pays(xs.dtype, sizes, layout.spatial_dims, strides, padding)


def _pays(dtype, sizes: dict[str, int], spatial_dims: str, strides, padding) -> bool:
    return (
        len(spatial_dims) == 2
        and dtype in (jnp.float32, jnp.float64)
        and all(stride == 1 for stride in strides)
        and all(end >= 0 for pair in padding for end in pair)
        and all(5 <= sizes[letter] <= 7 for letter in spatial_dims)
        and sizes["O"] <= 16
        and sizes["I"] * sizes["O"] <= 128
    )


def banded_conv(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    layout: ConvLayout,
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "..."]:
    """A two-dimensional convolution of stride 1 as one matrix product a block of columns.

    A block of `block` outputs in a row depends on `block + width - 1` columns of as many rows as
    the kernel has. Seen as a vector, it is multiplied by a matrix that holds the kernel in
    `block` shifted copies (banded, Toeplitz) and is the same for every block.
    """
    canonical = layout.canonical
    rows, columns = canonical.inputs[1:3]
    ends = dict(zip(layout.spatial_dims, padding, strict=True))
    xs = transpose_axes(xs, layout.inputs, canonical.inputs)
    kernel = transpose_axes(kernel, layout.kernel, canonical.kernel)
    height, width, channels, features = kernel.shape
    num_examples = xs.shape[0]
    xs = jnp.pad(xs, ((0, 0), ends[rows], ends[columns], (0, 0)))
    out_height, out_width = xs.shape[1] - height + 1, xs.shape[2] - width + 1
    # Wide rows go in blocks, so that at most half of the band's products are with zeros.
    block = out_width if out_width <= 2 * width else max(1, width - 1)
    num_blocks = -(-out_width // block)
    span = block + width - 1
    overhang = num_blocks * block + width - 1 - xs.shape[2]
    xs = jnp.pad(xs, ((0, 0), (0, 0), (0, overhang), (0, 0)))
    blocks = jnp.stack(
        [
            xs[:, :, i * block : i * block + span].reshape(*xs.shape[:2], span * channels)
            for i in range(num_blocks)
        ],
        axis=2,
    )
    patches = jnp.concatenate([blocks[:, i : i + out_height] for i in range(height)], axis=-1)
    band = jnp.einsum("ijco,jsb->iscbo", kernel, shifts(width, block, kernel.dtype))
    # Of two axes: with more, XLA transposes the patches for the kernel's gradient.
    patches = patches.reshape(-1, height * span * channels)
    ys = patches @ band.reshape(height * span * channels, block * features)
    ys = ys.reshape(num_examples, out_height, num_blocks * block, features)[:, :, :out_width]
    return transpose_axes(ys, canonical.outputs, layout.outputs)


def shifts(width: int, block: int, dtype) -> np.ndarray:
    """`[width, block + width - 1, block]`, one where column = output + offset in the kernel."""
    shifts = np.zeros((width, block + width - 1, block), dtype)
    for offset in range(width):
        shifts[offset, np.arange(block) + offset, np.arange(block)] = 1
    return shifts
