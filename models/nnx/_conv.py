"""Convolution in any layout as a Flax nnx module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
from flax import nnx

from .._checks import positive_integer
from ..conv import (
    ConvLayout,
    PaddingLike,
    add_bias,
    conv,
    lecun_normal,
    per_dimension,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Conv(nnx.Module):
    """`models.conv.conv` with a kernel in the layout's own order, and a bias a feature.

    Takes batches with the axes `layout.inputs` and returns them with `layout.outputs`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        *,
        layout: ConvLayout | Sequence[str] | None = None,
        strides: int | Sequence[int] = 1,
        padding: PaddingLike = "SAME",
        input_dilation: int | Sequence[int] = 1,
        kernel_dilation: int | Sequence[int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        kernel_init: Callable | None = None,
        bias_init: Callable = jax.nn.initializers.zeros,
        param_dtype=float,
        rngs: nnx.Rngs,
    ):
        """Arguments as `models.conv.conv` has them, and

          in_features, out_features: channels; `groups` must divide both.
          kernel_size: one integer, or one for each of `layout.spatial_dims`.
          kernel_init: `(key, shape, dtype) -> kernel` in the layout's order, such as
            `models.conv.glorot_uniform(layout)`; LeCun-normal where None.
          rngs: the source of the parameters' keys.

        Raises: ValueError or TypeError where an argument does not fit the layout.
        """
        self.layout = ConvLayout.of(layout)
        window = per_dimension("kernel_size", kernel_size, self.layout.spatial_dims)
        if in_features % positive_integer("groups", groups):
            raise ValueError(f"groups = {groups} does not divide in_features = {in_features}.")
        shape = self.layout.kernel_shape(window, in_features // groups, out_features)
        kernel_init = kernel_init or lecun_normal(self.layout)
        dtype = jax.dtypes.canonicalize_dtype(param_dtype)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, dtype))
        bias = bias_init(rngs.params(), (out_features,), dtype) if use_bias else None
        self.bias = None if bias is None else nnx.Param(bias)
        self.strides, self.padding = strides, padding
        self.input_dilation, self.kernel_dilation = input_dilation, kernel_dilation
        self.groups = groups

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Convolve a batch."""
        ys = conv(
            xs,
            self.kernel[...],
            self.layout,
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            groups=self.groups,
        )
        return ys if self.bias is None else add_bias(ys, self.bias[...], self.layout.outputs)
