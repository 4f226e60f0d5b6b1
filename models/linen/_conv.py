"""Convolution in any layout as a Flax linen module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax

from .._checks import positive_integer
from .._pooled import activated_max_pool
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


class Conv(nn.Module):
    """`models.conv.conv` with a kernel in the layout's own order, and a bias a feature.

    Takes batches with the axes `layout.inputs` and returns them with `layout.outputs`.

    Attributes as `models.conv.conv` has them, and
      features: output channels.
      kernel_size: one integer, or one for each of `layout.spatial_dims`.
      kernel_init: `(key, shape, dtype) -> kernel` in the layout's order, such as
        `models.conv.glorot_uniform(layout)`; LeCun-normal where None.
    """

    features: int
    kernel_size: int | Sequence[int]
    layout: ConvLayout | Sequence[str] | None = None
    strides: int | Sequence[int] = 1
    padding: PaddingLike = "SAME"
    input_dilation: int | Sequence[int] = 1
    kernel_dilation: int | Sequence[int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Callable | None = None
    bias_init: Callable = jax.nn.initializers.zeros
    param_dtype: Any = float

    @nn.compact
    def __call__(
        self, xs: Float[Array, "..."], *, pool: tuple[str, int] | None = None
    ) -> Float[Array, "..."]:
        """Convolve a batch; with `pool` = (activation, window), activate and max-pool it too.

        Raises: ValueError or TypeError where it does not fit.
        """
        layout = ConvLayout.of(self.layout)
        window = per_dimension("kernel_size", self.kernel_size, layout.spatial_dims)
        if xs.ndim != len(layout.inputs):
            raise ValueError(
                f"xs must have the {len(layout.inputs)} axes {layout.inputs!r} of the layout, got "
                f"shape {xs.shape}."
            )
        channels = xs.shape[layout.inputs.index("C")]
        if channels % positive_integer("groups", self.groups):
            raise ValueError(f"groups = {self.groups} does not divide the {channels} channels.")
        shape = layout.kernel_shape(window, channels // self.groups, self.features)
        dtype = jax.dtypes.canonicalize_dtype(self.param_dtype)
        kernel_init = self.kernel_init or lecun_normal(layout)
        kernel = self.param("kernel", kernel_init, shape, dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), dtype) if self.use_bias else None
        )
        ys = conv(
            xs,
            kernel,
            layout,
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            groups=self.groups,
        )
        if bias is not None:
            ys = add_bias(ys, bias, layout.outputs)
        return ys if pool is None else activated_max_pool(ys, *pool, layout.following)
