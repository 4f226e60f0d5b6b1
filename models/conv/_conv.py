"""Convolution in any layout, with every argument checked before XLA sees it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

from jacreg._convolution import as_products

from ._layout import ConvLayout
from ._window import PaddingLike, explicit_padding, per_dimension, positive

if TYPE_CHECKING:
    from jaxtyping import Array, Inexact


def conv(
    xs: Inexact[Array, "..."],
    kernel: Inexact[Array, "..."],
    layout: ConvLayout | Sequence[str] | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: PaddingLike = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Inexact[Array, "..."]:
    """Convolve a batch with a kernel, both in the layout's own axis order.

    As everywhere in machine learning this is a cross-correlation: the kernel is not flipped.
    Where the dtypes differ, both are promoted as JAX promotes them.

    Arguments:
      xs: the batch, axes as `layout.inputs`.
      kernel: axes as `layout.kernel`; its `I` axis has the input channels divided by `groups`.
      layout: a `ConvLayout`, or its three strings; NHWC, HWIO, NHWC where None.
      strides: one integer, or one for each of `layout.spatial_dims`; so are the dilations.
      padding: "SAME", "SAME_LOWER", "VALID", an integer, or a (low, high) pair a spatial axis;
        the names count the size after `input_dilation`.
      input_dilation: spreads the inputs by zeros (a transposed, or fractionally strided,
        convolution).
      kernel_dilation: spreads the kernel by zeros (an atrous convolution).
      groups: splits the channels into so many convolutions side by side.

    Returns: the convolved batch, axes as `layout.outputs`.

    Raises: TypeError for integer inputs; ValueError where shapes, channels, strides, padding,
    dilations or groups do not fit the layout or each other.
    """
    layout = ConvLayout.of(layout)
    xs, kernel = inexact_pair(xs, kernel)
    check_dimensions(xs, kernel, layout)
    dims = layout.spatial_dims
    groups = positive("groups", groups)
    check_channels(xs, kernel, layout, groups)
    strides = per_dimension("strides", strides, dims)
    input_dilation = per_dimension("input_dilation", input_dilation, dims)
    kernel_dilation = per_dimension("kernel_dilation", kernel_dilation, dims)
    sizes = dilated_sizes(xs.shape, layout.inputs, dims, input_dilation)
    windows = dilated_sizes(kernel.shape, layout.kernel, dims, kernel_dilation)
    pairs = explicit_padding(padding, sizes, windows, strides, dims)
    convolve = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pairs,
        lhs_dilation=input_dilation,
        rhs_dilation=kernel_dilation,
        dimension_numbers=layout.dimension_numbers,
        feature_group_count=groups,
    )
    return as_products(convolve)(xs, kernel)


def add_bias(
    ys: Inexact[Array, "..."], bias: Inexact[Array, " C"], axes: str
) -> Inexact[Array, "..."]:
    """Add one number a channel to an array whose axes are the letters of `axes`."""
    shape = [-1 if letter == "C" else 1 for letter in axes]
    return ys + jnp.reshape(bias, shape)


def inexact_pair(
    xs: Inexact[Array, "..."], kernel: Inexact[Array, "..."]
) -> tuple[Inexact[Array, "..."], Inexact[Array, "..."]]:
    """Both as arrays of their common floating dtype.

    Raises: TypeError where one holds integers or booleans.
    """
    for name, array in (("xs", xs), ("kernel", kernel)):
        if not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
            raise TypeError(
                f"conv needs floating-point {name}, got {jnp.result_type(array)}: cast first, "
                f"such as {name}.astype(jnp.float32), and scale images as the network expects."
            )
    xs, kernel = jnp.asarray(xs), jnp.asarray(kernel)
    dtype = jnp.promote_types(xs.dtype, kernel.dtype)
    return xs.astype(dtype), kernel.astype(dtype)


def check_dimensions(xs, kernel, layout: ConvLayout) -> None:
    """Raises ValueError where the arrays have another number of axes than the layout's parts."""
    for name, array, axes in (("xs", xs, layout.inputs), ("kernel", kernel, layout.kernel)):
        if array.ndim != len(axes):
            raise ValueError(
                f"{name} must have the {len(axes)} axes {axes!r} of the layout, got shape "
                f"{array.shape}."
            )


def check_channels(xs, kernel, layout: ConvLayout, groups: int) -> None:
    """Raises ValueError where the kernel's channels do not fit the inputs' and the groups."""
    axis, kernel_axis = layout.inputs.index("C"), layout.kernel.index("I")
    channels, wanted = xs.shape[axis], kernel.shape[kernel_axis] * groups
    if channels != wanted:
        product = f"{kernel.shape[kernel_axis]}" + (f" x {groups} groups" if groups > 1 else "")
        raise ValueError(
            f"xs of shape {xs.shape} has {channels} channels on axis {axis} (C of "
            f"{layout.inputs!r}), but the kernel of shape {kernel.shape} takes {product} on axis "
            f"{kernel_axis} (I of {layout.kernel!r}). Is the layout the one that the arrays have?"
        )
    features = kernel.shape[layout.kernel.index("O")]
    if features % groups:
        raise ValueError(
            f"groups = {groups} does not divide the {features} output channels of the kernel "
            f"(axis {layout.kernel.index('O')}, O of {layout.kernel!r})."
        )


def dilated_sizes(
    shape: Sequence[int], axes: str, spatial_dims: str, dilation: Sequence[int]
) -> tuple[int, ...]:
    """The spatial extents with `dilation - 1` zeros between neighbours."""
    sizes = (shape[axes.index(letter)] for letter in spatial_dims)
    return tuple(
        max(0, (size - 1) * spread + 1) for size, spread in zip(sizes, dilation, strict=True)
    )
