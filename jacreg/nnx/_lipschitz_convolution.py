"""Convolutions in nnx that are 1-Lipschitz in the l2 norm whatever their parameters are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from .._lipschitz._fixed import aol_bound, sll_convolution_bound
from .._lipschitz._layers import (
    aol_convolution,
    aol_numbers,
    check_sizes,
    draw_aol,
    draw_sll,
    sll_convolution,
    sll_convolution_numbers,
)
from .._lipschitz._layout import Convolution, Padding
from ._fixed_kernels import OneLipschitz

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_LAST = ("NHWC", "HWIO", "NHWC")


class AOLConv(OneLipschitz):
    """Almost orthogonal convolution (Prach and Lampert 2022, arXiv:2208.03160).

    The kernel's input channels are scaled so that the convolution's norm is at most 1 for any
    kernel, stride, padding with zeros and image size, in one to three dimensions; with strides
    each pixel between two places of the kernel has a scale of its own.

    Attributes:
        kernel: in the layout's order, free.
        bias: `[out]`, or None.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.AOLConv(1, 2, 3, rngs=nnx.Rngs(0))
        >>> xs, ys = jnp.ones((1, 4, 4, 1)), -jnp.ones((1, 4, 4, 1))
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        *,
        strides: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        groups: int = 1,
        layout: Sequence[str] = _LAST,
        use_bias: bool = True,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Make the layer.

        Args:
            in_features: channels of the input.
            out_features: channels of the output.
            kernel_size: one number, or one a spatial axis in the kernel's order.
            strides: the same.
            padding: "SAME", "VALID", or numbers or pairs a spatial axis, of zeros.
            groups: of channels.
            layout: axes of inputs, kernel and outputs, lax's three strings.
            use_bias: whether a vector is added.
            param_dtype: of the parameters.
            rngs: for the kernel.

        Raises:
            ValueError: an argument that does not fit the others.
        """
        check_sizes("AOLConv", in_features=in_features, out_features=out_features)
        self.convolution = Convolution.of("AOLConv", layout, kernel_size, strides, padding, groups)
        self.convolution.kernel_shape(in_features, out_features)
        self.kernel = nnx.Param(
            draw_aol(self.convolution, in_features, out_features, rngs.params(), param_dtype)
        )
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else None
        self.in_features, self.out_features = in_features, out_features

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the convolution of a batch in the layout's order."""
        bias = None if self.bias is None else self.bias[...]
        numbers, axes = self._numbers(), self.convolution.layout[0]
        self.convolution.check_input("jacreg.nnx.AOLConv", xs.shape, numbers["kernel"], axes)
        return aol_convolution(xs, numbers, bias, self.convolution).astype(xs.dtype)

    def _computed(self) -> dict[str, Array]:
        return aol_numbers(self.kernel[...], self.convolution)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return aol_bound(numbers, self.convolution)


class SLLConv(OneLipschitz):
    """Residual convolution x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, arXiv:2303.03169).

    W^T is a convolution with as many channels, padded with zeros to the same size.

    Attributes:
        kernel: of W^T, in the layout's order, free.
        scale: `[features]`, free: the paper's q before it is made positive.
        bias: `[features]`.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.SLLConv(2, 3, rngs=nnx.Rngs(0))
        >>> xs, ys = jnp.ones((1, 4, 4, 2)), -jnp.ones((1, 4, 4, 2))
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    def __init__(
        self,
        features: int,
        kernel_size: int | Sequence[int],
        *,
        layout: Sequence[str] = _LAST,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Make the layer; arguments as `AOLConv`.

        Raises:
            ValueError: an argument that does not fit the others.
        """
        check_sizes("SLLConv", features=features)
        self.convolution = Convolution.of("SLLConv", layout, kernel_size)
        shape = self.convolution.kernel_shape(features, features)
        fan = features * prod(self.convolution.kernel_size)
        self.kernel = nnx.Param(draw_sll(shape, fan, rngs.params(), param_dtype))
        self.scale = nnx.Param(jnp.zeros(features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(features, param_dtype))
        self.features = features

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the residual layer's output, in the layout's order."""
        numbers, axes = self._numbers(), self.convolution.layout[0]
        self.convolution.check_input("jacreg.nnx.SLLConv", xs.shape, numbers["kernel"], axes)
        ys = sll_convolution(xs, numbers, self.bias[...], self.convolution)
        return ys.astype(xs.dtype)

    def _computed(self) -> dict[str, Array]:
        return sll_convolution_numbers(self.kernel[...], self.scale[...], self.convolution)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return sll_convolution_bound(numbers)
