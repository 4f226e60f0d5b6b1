"""A convolutional network of Lipschitz constant 1 as an Equinox module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from jacreg.eqx import AOLConv, OrthogonalDense, SLLConv

from .._layers import dtype
from .._lipschitz_cnn import LipschitzLayer, plain_residual
from ..conv import ConvLayout, lecun_normal
from ._conv import Conv
from ._dense import dense
from ._network import Classifier

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LipschitzCNN(Classifier):
    """A 1-Lipschitz classifier (see `LipschitzCNNSpec`): one image -> logits `[K]`."""

    def make(self, layer: LipschitzLayer, key: jax.Array) -> eqx.Module:
        """The module of a description."""
        if layer.layout is None:
            if layer.constrained:
                return OrthogonalDense(layer.into, layer.out, key=key)
            return dense((layer.into, layer.out), "lecun_normal", key=key)
        if layer.kind == "residual":
            if not layer.constrained:
                return _PlainResidual(layer.out, layer.window, layout=layer.layout, key=key)
            numbers = layer.layout.dimension_numbers
            return SLLConv(layer.out, layer.window, layout=numbers, key=key)
        convolution = AOLConv if layer.constrained else Conv
        return convolution(
            layer.into, layer.out, layer.window, strides=layer.strides,
            layout=layer.layout.dimension_numbers, key=key,
        )  # fmt: skip

    def lipschitz_bound(self) -> Float[Array, ""]:
        """||f(x) - f(y)|| <= L ||x - y||: 1, or of plain layers what their program shows."""
        batched = jax.vmap(self, in_axes=self.spec.layout.batch_axis)
        return self.spec.lipschitz_bound(list(self.named_layers().values()), batched)


class _PlainResidual(eqx.Module):
    """`models._lipschitz_cnn.plain_residual` with its parameters, of one example."""

    kernel: jax.Array
    bias: jax.Array
    layout: ConvLayout = eqx.field(static=True)

    def __init__(self, features: int, kernel_size: int, *, layout: ConvLayout, key: jax.Array):
        self.layout = layout
        window = (kernel_size,) * len(layout.spatial_dims)
        shape = layout.kernel_shape(window, features, features)
        self.kernel = lecun_normal(layout)(key, shape, dtype())
        self.bias = jnp.zeros(features, dtype())

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        layout = self.layout
        xs = jnp.expand_dims(x, layout.batch_axis)
        ys = plain_residual(xs, self.kernel, self.bias, layout)
        return jnp.squeeze(ys, layout.outputs.index("N"))
