"""Layers in Equinox that are 1-Lipschitz in the l2 norm whatever their parameters are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._lipschitz._fixed import aol_bound, orthogonal_bound, sll_convolution_bound, sll_dense_bound
from .._lipschitz._layers import (
    aol_convolution,
    aol_numbers,
    check_sizes,
    draw_aol,
    draw_sll,
    orthogonal_numbers,
    sll_convolution,
    sll_convolution_numbers,
    sll_dense,
    sll_dense_numbers,
)
from .._lipschitz._layout import Convolution, Padding
from .._lipschitz._sequential import check_layers, sequential_bound
from ._fixed_kernels import OneLipschitz

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray

_FIRST = ("NCHW", "OIHW", "NCHW")


class OrthogonalDense(OneLipschitz):
    """Dense layer whose matrix has orthonormal rows or columns: all singular values are 1.

    The Cayley transform of the weight (Trockman and Kolter 2021, arXiv:2104.07167), for which
    any weight will do. With as many outputs as inputs it keeps the norm of every gradient.

    Attributes:
        weight: `[out, in]`, free.
        bias: `[out]`, or None.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.OrthogonalDense(2, 2, key=jax.random.key(0))
        >>> jnp.linalg.norm(layer(jnp.array([3.0, 4.0]))).round()
        Array(5., dtype=float32)
    """

    weight: Array
    bias: Array | None
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        key: PRNGKeyArray,
    ) -> None:
        """Make the layer; `key` gives the weight.

        Raises:
            ValueError: a size is no positive int.
        """
        check_sizes("OrthogonalDense", in_size=in_size, out_size=out_size)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.weight = draw_sll((out_size, in_size), in_size, key, dtype)
        self.bias = jnp.zeros(out_size, dtype) if use_bias else None
        self.in_size, self.out_size = in_size, out_size
        self.fixed = None

    def __call__(
        self, x: Float[Array, " in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " out"]:
        """Return W x + b of one example."""
        del key
        y = x @ self._numbers()["kernel"].astype(x.dtype)
        return y if self.bias is None else y + self.bias.astype(x.dtype)

    def _computed(self) -> dict[str, Array]:
        return orthogonal_numbers(self.weight.T)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return orthogonal_bound(numbers)


class SLLDense(OneLipschitz):
    """Residual dense layer x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, arXiv:2303.03169).

    T is the diagonal matrix that makes it 1-Lipschitz for any W.

    Attributes:
        weight: W^T, `[size, size]`, free.
        scale: `[size]`, free: the paper's q before it is made positive.
        bias: `[size]`.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.SLLDense(2, key=jax.random.key(0))
        >>> xs, ys = jnp.ones(2), -jnp.ones(2)
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    weight: Array
    scale: Array
    bias: Array

    def __init__(self, size: int, *, dtype: Any = None, key: PRNGKeyArray) -> None:
        """Make the layer; `key` gives the weight.

        Raises:
            ValueError: `size` is no positive int.
        """
        check_sizes("SLLDense", size=size)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.weight = draw_sll((size, size), size, key, dtype)
        self.scale, self.bias = jnp.zeros(size, dtype), jnp.zeros(size, dtype)
        self.fixed = None

    def __call__(
        self, x: Float[Array, " size"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " size"]:
        """Return the residual layer's output of one example."""
        del key
        return sll_dense(x, self._numbers(), self.bias).astype(x.dtype)

    def _computed(self) -> dict[str, Array]:
        return sll_dense_numbers(self.weight.T, self.scale)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return sll_dense_bound(numbers)


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


class LipschitzSequential(eqx.Module):
    """Layers in a row that say their Lipschitz constant.

    Attributes:
        layers: modules and functions of one example.
        in_shape: shape of one example, or None.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.SLLDense(2, key=jax.random.key(0))
        >>> net = jacreg.eqx.LipschitzSequential([layer, lambda x: 3 * x], in_shape=(2,))
        >>> net.lipschitz_bound().round()
        Array(3., dtype=float32)
    """

    layers: tuple[Callable[..., Any], ...]
    in_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self, layers: Sequence[Callable[..., Any]], *, in_shape: Sequence[int] | None = None
    ) -> None:
        """Keep the layers.

        Args:
            layers: those of this file, activations, and with `in_shape` any that
                `jacreg.lipschitz_bound` reads.
            in_shape: shape of one example, for the bounds that depend on it.

        Raises:
            TypeError: `layers` is no list of callables.
        """
        self.layers = tuple(check_layers(layers))
        self.in_shape = None if in_shape is None else tuple(in_shape)

    def __call__(
        self, x: Float[Array, "*in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*out"]:
        """Apply the layers one after the other."""
        del key
        for layer in self.layers:
            x = layer(x)
        return x

    def lipschitz_bound(self) -> Float[Array, ""]:
        """The product of the layers' bounds: ||f(x) - f(y)|| <= L ||x - y||.

        Raises:
            ValueError: a layer has no bound, or one that depends on its input's size where
                `in_shape` was not given.
        """
        return sequential_bound(self.layers, self.in_shape, _Batched)


class _Batched:
    """A layer of one example as one of a batch, with its own bound where it has one."""

    def __init__(self, layer: Callable[..., Any]) -> None:
        self.layer = layer
        self.__name__ = getattr(layer, "__name__", type(layer).__name__)
        self.lipschitz_bound = getattr(layer, "lipschitz_bound", None)

    def __call__(self, xs: Array) -> Array:
        return jax.vmap(self.layer)(xs)


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
