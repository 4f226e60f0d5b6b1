"""Transposed convolution: up-sampling by a kernel, in any layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp

from ._conv import check_dimensions, conv, dilated_sizes, inexact_pair
from ._layout import ConvLayout, transpose_axes
from ._window import PaddingLike, per_dimension, positive

if TYPE_CHECKING:
    from jaxtyping import Array, Inexact


def conv_transpose(
    xs: Inexact[Array, "..."],
    kernel: Inexact[Array, "..."],
    layout: ConvLayout | Sequence[str] | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transpose_kernel: bool = False,
) -> Inexact[Array, "..."]:
    """Convolve inputs that are spread out by `strides`, as `jax.lax.conv_transpose` does.

    Arguments:
      xs: the batch, axes as `layout.inputs`.
      kernel: axes as `layout.kernel`. With `transpose_kernel` it is the kernel of the
        convolution whose transpose this is: flipped, `I` and `O` swapped.
      layout: a `ConvLayout`, or its three strings; NHWC, HWIO, NHWC where None.
      strides: the up-sampling factor, one integer or one for each of `layout.spatial_dims`.
      padding: "SAME" gives size times stride, "VALID" every position that the kernel touches;
        integers and pairs pad the spread inputs as they are.
      kernel_dilation: spreads the kernel by zeros.
      groups: splits the channels into so many convolutions side by side.
      transpose_kernel: with it and a named padding this is the exact transpose of `conv` of
        the same arguments (where the strides divide the sizes), so its gradient in the inputs.

    Returns: the up-sampled batch, axes as `layout.outputs`.

    Raises: as `conv`.
    """
    layout = ConvLayout.of(layout)
    xs, kernel = inexact_pair(xs, kernel)
    check_dimensions(xs, kernel, layout)
    dims = layout.spatial_dims
    groups = positive("groups", groups)
    strides = per_dimension("strides", strides, dims)
    kernel_dilation = per_dimension("kernel_dilation", kernel_dilation, dims)
    if transpose_kernel:
        kernel = _transposed_kernel(kernel, layout, groups)
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        windows = dilated_sizes(kernel.shape, layout.kernel, dims, kernel_dilation)
        padding = tuple(
            _pads(window, stride, padding.upper())
            for window, stride in zip(windows, strides, strict=True)
        )
    elif isinstance(padding, str):
        raise ValueError(
            f"Unknown padding {padding!r} of a transposed convolution: use SAME, VALID, an "
            "integer, or one (low, high) pair for each spatial axis."
        )
    return conv(
        xs,
        kernel,
        layout,
        padding=padding,
        input_dilation=strides,
        kernel_dilation=kernel_dilation,
        groups=groups,
    )


def _pads(window: int, stride: int, padding: str) -> tuple[int, int]:
    # The sizes that jax.lax.conv_transpose gives: n * stride for SAME, and for VALID also the
    # positions that a kernel shorter than the stride leaves untouched.
    if padding == "SAME":
        total = window + stride - 2
        low = window - 1 if stride > window - 1 else -(-total // 2)
    else:
        total = window + stride - 2 + max(window - stride, 0)
        low = window - 1
    return low, total - low


def _transposed_kernel(
    kernel: Inexact[Array, "..."], layout: ConvLayout, groups: int
) -> Inexact[Array, "..."]:
    canonical = layout.canonical.kernel
    kernel = transpose_axes(kernel, layout.kernel, canonical)
    *window, inputs, outputs = kernel.shape
    if outputs % groups:
        raise ValueError(
            f"groups = {groups} does not divide the {outputs} output channels of the kernel "
            f"(O of {layout.kernel!r})."
        )
    kernel = jnp.flip(kernel, tuple(range(len(window))))
    # Channel g * outputs / groups + o belongs to group g, which holds `inputs` inputs of its own.
    kernel = kernel.reshape(*window, inputs, groups, outputs // groups)
    kernel = jnp.swapaxes(kernel, -3, -1).reshape(*window, outputs // groups, groups * inputs)
    return transpose_axes(kernel, canonical, layout.kernel)
