"""Convolution in any layout as an Equinox module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

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


class Conv(eqx.Module):
    """`models.conv.conv` with a kernel in the layout's own order, and a bias a feature.

    Takes one example, with the axes of `layout.inputs` less the batch axis, and returns one with
    those of `layout.outputs`.
    """

    kernel: jax.Array
    bias: jax.Array | None
    layout: ConvLayout = eqx.field(static=True)
    strides: int | Sequence[int] = eqx.field(static=True)
    padding: PaddingLike = eqx.field(static=True)
    input_dilation: int | Sequence[int] = eqx.field(static=True)
    kernel_dilation: int | Sequence[int] = eqx.field(static=True)
    groups: int = eqx.field(static=True)

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
        key: jax.Array,
    ):
        """Arguments as `models.conv.conv` has them, and

          in_features, out_features: channels; `groups` must divide both.
          kernel_size: one integer, or one for each of `layout.spatial_dims`.
          kernel_init: `(key, shape, dtype) -> kernel` in the layout's order, such as
            `models.conv.glorot_uniform(layout)`; LeCun-normal where None.
          key: the key of the initial parameters.

        Raises: ValueError or TypeError where an argument does not fit the layout.
        """
        self.layout = ConvLayout.of(layout)
        window = per_dimension("kernel_size", kernel_size, self.layout.spatial_dims)
        if in_features % positive_integer("groups", groups):
            raise ValueError(f"groups = {groups} does not divide in_features = {in_features}.")
        shape = self.layout.kernel_shape(window, in_features // groups, out_features)
        kernel_init = kernel_init or lecun_normal(self.layout)
        dtype = jax.dtypes.canonicalize_dtype(param_dtype)
        kernel_key, bias_key = jax.random.split(key)
        self.kernel = kernel_init(kernel_key, shape, dtype)
        self.bias = bias_init(bias_key, (out_features,), dtype) if use_bias else None
        # Static fields must be hashable, and a config's lists are not.
        self.strides, self.padding = _hashable(strides), _hashable(padding)
        self.input_dilation = _hashable(input_dilation)
        self.kernel_dilation = _hashable(kernel_dilation)
        self.groups = groups

    def __call__(
        self, x: Float[Array, "..."], *, key: jax.Array | None = None
    ) -> Float[Array, "..."]:
        """Convolve one example. Raises: ValueError where it does not fit."""
        axes = self.layout.example_axes()
        if jnp.ndim(x) != len(axes):
            raise ValueError(
                f"One example has the {len(axes)} axes {axes!r} (inputs {self.layout.inputs!r} "
                f"less the batch), got shape {jnp.shape(x)}. Use jax.vmap for a batch."
            )
        ys = conv(
            jnp.expand_dims(x, self.layout.inputs.index("N")),
            self.kernel,
            self.layout,
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            groups=self.groups,
        )
        y = jnp.squeeze(ys, self.layout.outputs.index("N"))
        return (
            y if self.bias is None else add_bias(y, self.bias, self.layout.example_axes("outputs"))
        )


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(each) for each in value)
    return value
