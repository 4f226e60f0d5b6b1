"""A convolutional network of Lipschitz constant 1 as a Flax nnx module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from jacreg.nnx import AOLConv, OrthogonalDense, SLLConv

from .._layers import dtype
from .._lipschitz_cnn import LipschitzLayer, plain_residual
from ..conv import ConvLayout, lecun_normal
from ._conv import Conv
from ._network import Classifier

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LipschitzCNN(Classifier):
    """A 1-Lipschitz classifier (see `LipschitzCNNSpec`): images -> logits `[N, K]`."""

    def make(self, layer: LipschitzLayer, rngs: nnx.Rngs) -> nnx.Module:
        """The module of a description."""
        kind: Any = dtype()
        if layer.layout is None:
            dense = OrthogonalDense if layer.constrained else nnx.Linear
            return dense(layer.into, layer.out, param_dtype=kind, rngs=rngs)
        if layer.kind == "residual":
            if not layer.constrained:
                return _PlainResidual(layer.out, layer.window, layout=layer.layout, rngs=rngs)
            numbers = layer.layout.dimension_numbers
            return SLLConv(layer.out, layer.window, layout=numbers, param_dtype=kind, rngs=rngs)
        convolution = AOLConv if layer.constrained else Conv
        return convolution(
            layer.into, layer.out, layer.window, strides=layer.strides,
            layout=layer.layout.dimension_numbers, param_dtype=kind, rngs=rngs,
        )  # fmt: skip

    def lipschitz_bound(self) -> Float[Array, ""]:
        """||f(x) - f(y)|| <= L ||x - y||: 1, or of plain layers what their program shows."""
        return self.spec.lipschitz_bound(list(self.named_layers().values()), self)


class _PlainResidual(nnx.Module):
    """`models._lipschitz_cnn.plain_residual` with its parameters."""

    def __init__(self, features: int, kernel_size: int, *, layout: ConvLayout, rngs: nnx.Rngs):
        self.layout = layout
        window = (kernel_size,) * len(layout.spatial_dims)
        shape = layout.kernel_shape(window, features, features)
        self.kernel = nnx.Param(lecun_normal(layout)(rngs.params(), shape, dtype()))
        self.bias = nnx.Param(jnp.zeros(features, dtype()))

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        return plain_residual(xs, self.kernel[...], self.bias[...], self.layout)
