"""Convolutions in Equinox that are 1-Lipschitz in the l2 norm whatever their parameters are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp

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
    from jaxtyping import Array, Float, PRNGKeyArray

_FIRST = ("NCHW", "OIHW", "NCHW")


class AOLConv(OneLipschitz):
    """Almost orthogonal convolution (Prach and Lampert 2022, arXiv:2208.03160).

    The kernel's input channels are scaled so that the convolution's norm is at most 1 for any
    kernel, stride, padding with zeros and image size, in one to three dimensions; with strides
    each pixel between two places of the kernel has a scale of its own.

    Attributes:
        weight: in the layout's order, free.
        bias: `[out]`, or None.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.AOLConv(1, 2, 3, key=jax.random.key(0))
        >>> xs, ys = jnp.ones((1, 4, 4)), -jnp.ones((1, 4, 4))
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    weight: Array
    bias: Array | None
    convolution: Convolution = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        strides: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        groups: int = 1,
        layout: Sequence[str] = _FIRST,
        use_bias: bool = True,
        dtype: Any = None,
        key: PRNGKeyArray,
    ) -> None:
        """Make the layer.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            kernel_size: one number, or one a spatial axis in the kernel's order.
            strides: the same.
            padding: "SAME", "VALID", or numbers or pairs a spatial axis, of zeros.
            groups: of channels.
            layout: axes of inputs, kernel and outputs, lax's three strings; an example has the
                axes of the first without N.
            use_bias: whether a vector is added.
            dtype: of the parameters; None means JAX's default float.
            key: for the weight.

        Raises:
            ValueError: an argument that does not fit the others.
        """
        check_sizes("AOLConv", in_channels=in_channels, out_channels=out_channels)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.convolution = Convolution.of("AOLConv", layout, kernel_size, strides, padding, groups)
        self.convolution.kernel_shape(in_channels, out_channels)
        self.weight = draw_aol(self.convolution, in_channels, out_channels, key, dtype)
        self.bias = jnp.zeros(out_channels, dtype) if use_bias else None
        self.fixed = None

    def __call__(
        self, x: Float[Array, "*in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*out"]:
        """Return the convolution of one example in the layout's order."""
        del key
        numbers = self._numbers()

        def layer(xs: Array) -> Array:
            return aol_convolution(xs, numbers, self.bias, self.convolution)

        return _of_one("AOLConv", layer, x, self.convolution, numbers["kernel"])

    def _computed(self) -> dict[str, Array]:
        return aol_numbers(self.weight, self.convolution)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return aol_bound(numbers, self.convolution)


class SLLConv(OneLipschitz):
    """Residual convolution x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, arXiv:2303.03169).

    W^T is a convolution with as many channels, padded with zeros to the same size.

    Attributes:
        weight: of W^T, in the layout's order, free.
        scale: `[channels]`, free: the paper's q before it is made positive.
        bias: `[channels]`.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.SLLConv(2, 3, key=jax.random.key(0))
        >>> xs, ys = jnp.ones((2, 4, 4)), -jnp.ones((2, 4, 4))
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    weight: Array
    scale: Array
    bias: Array
    convolution: Convolution = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        *,
        layout: Sequence[str] = _FIRST,
        dtype: Any = None,
        key: PRNGKeyArray,
    ) -> None:
        """Make the layer; arguments as `AOLConv`.

        Raises:
            ValueError: an argument that does not fit the others.
        """
        check_sizes("SLLConv", channels=channels)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.convolution = Convolution.of("SLLConv", layout, kernel_size)
        shape = self.convolution.kernel_shape(channels, channels)
        fan = channels * prod(self.convolution.kernel_size)
        self.weight = draw_sll(shape, fan, key, dtype)
        self.scale, self.bias = jnp.zeros(channels, dtype), jnp.zeros(channels, dtype)
        self.fixed = None

    def __call__(
        self, x: Float[Array, "*in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*out"]:
        """Return the residual layer's output of one example, in the layout's order."""
        del key
        numbers = self._numbers()

        def layer(xs: Array) -> Array:
            return sll_convolution(xs, numbers, self.bias, self.convolution)

        return _of_one("SLLConv", layer, x, self.convolution, numbers["kernel"])

    def _computed(self) -> dict[str, Array]:
        return sll_convolution_numbers(self.weight, self.scale, self.convolution)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return sll_convolution_bound(numbers)


def _of_one(
    name: str,
    layer: Callable[[Array], Array],
    x: Array,
    convolution: Convolution,
    kernel: Array,
) -> Array:
    axes = convolution.layout[0].replace("N", "")
    convolution.check_input(f"jacreg.eqx.{name}", x.shape, kernel, axes)
    batch, out = (convolution.layout[part].index("N") for part in (0, 2))
    return jnp.squeeze(layer(jnp.expand_dims(x, batch)), out).astype(x.dtype)
