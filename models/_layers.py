"""The layers that networks are made of, whatever the framework that runs them.

A specification lists its layers by name (`layers()`) and says how they follow each other
(`forward(net, xs)`). `models.nnx` and `models.eqx` each make a layer of a description in one place,
and hand `forward` a `Net`: the same lines run on a batch in nnx and on one example in Equinox.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from ._activations import initializer
from .conv import ConvLayout, PaddingLike, by_layout

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@runtime_checkable
class Layer(Protocol):
    """A description of one layer.

    Attributes:
      kernel_axes: the kernel's own and canonical axes; None where it has no kernel.
    """

    @property
    def kernel_axes(self) -> tuple[str, str] | None: ...

    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        """Initial arrays by their names, a kernel in the canonical order."""
        ...


@runtime_checkable
class Net(Protocol):
    """A network's layers in one framework, during one call.

    Attributes:
      batched: whether arrays have the batch axis.
    """

    batched: bool

    def apply(self, name: str, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """What the layer of that name makes of its inputs."""
        ...

    def pooled(
        self, name: str, xs: Float[Array, "..."], activation: str, window: int
    ) -> Float[Array, "..."]:
        """Max-pooling of the activation of what a convolution of that name gives."""
        ...

    def drop(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Dropout at the specification's rate, in training alone."""
        ...

    def noise(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gaussian noise of the specification's scale, in training alone."""
        ...


@runtime_checkable
class OpenNet(Net, Protocol):
    """A network whose kernels can be read too, as in nnx and Equinox."""

    def kernel(self, name: str) -> Float[Array, "..."]:
        """The kernel of the layer of that name, a dense one as `(in, out)`."""
        ...


@dataclasses.dataclass(frozen=True)
class Dense:
    """A matrix of the named initialiser and a bias of zeros: `[..., into] -> [..., out]`."""

    into: int
    out: int
    init: str = "lecun_normal"

    @property
    def kernel_axes(self) -> tuple[str, str]:
        return "IO", "IO"

    @property
    def kernel_init(self) -> Callable:
        """`(key, shape, dtype) -> kernel`."""
        return initializer(self.init)

    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        kernel = self.kernel_init(key, (self.into, self.out), dtype())
        return {"kernel": kernel, "bias": jnp.zeros(self.out, dtype())}


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`models.conv.conv` with a kernel of the named initialiser and a bias of zeros, or none.

    Attributes:
      into, out: channels.
      window: places of the kernel an axis.
      layout: of images and the kernel.
    """

    into: int
    out: int
    window: int
    layout: ConvLayout
    strides: int = 1
    padding: PaddingLike = "SAME"
    input_dilation: int = 1
    init: str = "lecun_normal"
    bias: bool = True

    @property
    def kernel_axes(self) -> tuple[str, str]:
        return self.layout.kernel, self.layout.canonical.kernel

    @property
    def kernel_init(self) -> Callable:
        """`(key, shape, dtype) -> kernel`, in the layout's own order."""
        return by_layout(initializer(self.init), self.layout)

    @property
    def options(self) -> dict[str, Any]:
        """What `Conv` of each framework takes by these names, beside its sizes."""
        return {
            "layout": self.layout,
            "strides": self.strides,
            "padding": self.padding,
            "input_dilation": self.input_dilation,
            "use_bias": self.bias,
            "kernel_init": self.kernel_init,
        }

    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        shape = (*(self.window,) * len(self.layout.spatial_dims), self.into, self.out)
        kernel = initializer(self.init)(key, shape, dtype())
        return {"kernel": kernel, **({"bias": jnp.zeros(self.out, dtype())} if self.bias else {})}


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Normalisation of each channel over batch and space, then a scale and a bias.

    In training by the batch's mean and (biased) variance, of which `1 - momentum` goes into the
    running ones, `mean` and `var`; in evaluation by these. Source: Ioffe and Szegedy 2015.

    Attributes:
      features: channels.
      axes: of a batch, such as "NHWC".
    """

    features: int
    axes: str
    momentum: float = 0.9
    epsilon: float = 1e-5

    @property
    def kernel_axes(self) -> None:
        return None

    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        zeros, ones = jnp.zeros(self.features, dtype()), jnp.ones(self.features, dtype())
        return {"scale": ones, "bias": zeros, "mean": zeros, "var": ones}


@dataclasses.dataclass(frozen=True)
class Bias:
    """A bias of zeros alone: `[..., features] -> [..., features]`."""

    features: int

    @property
    def kernel_axes(self) -> None:
        return None

    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"bias": jnp.zeros(self.features, dtype())}


def is_stateful(spec: Any) -> bool:
    """Whether a network keeps running statistics."""
    return any(isinstance(layer, BatchNorm) for layer in spec.layers().values())


def dtype():
    """Of parameters: double where JAX is in 64-bit mode."""
    return jax.dtypes.canonicalize_dtype(float)


def own_axes(net: Net, axes: str) -> str:
    """The letters of a batch as the network has them: without N for one example."""
    return axes if net.batched else axes.replace("N", "")
