"""A convolutional network of Lipschitz constant 1 as a Flax nnx module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jacreg.nnx import AOLConv, MaxMin, OrthogonalDense, SLLConv

from .._lipschitz_cnn import Layer, LipschitzCNNSpec, plain_residual
from ..conv import ConvLayout, flatten, lecun_normal
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LipschitzCNN(nnx.Module):
    """A 1-Lipschitz classifier (see `LipschitzCNNSpec`): images -> logits `[N, K]`."""

    def __init__(self, spec: LipschitzCNNSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        for name, layer in spec.layers().items():
            setattr(self, name, _make(layer, spec.constrained, rngs))

    def named_layers(self) -> dict[str, nnx.Module]:
        """The layers with parameters, by their names in `LipschitzCNNSpec.kernel_shapes`."""
        return {name: getattr(self, name) for name in self.spec.layers()}

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, " N K"]:
        """The logits of a batch."""
        self.spec.check(xs, batched=True)
        axes = self.spec.layout.following.outputs
        for name, layer in self.spec.layers().items():
            if name == "dense_1":
                xs = flatten(xs, axes)
            xs = getattr(self, name)(xs)
            if layer.paired:
                xs = MaxMin(axis=axes.index("C") if layer.layout else -1)(xs)
        return xs

    def lipschitz_bound(self) -> Float[Array, ""]:
        """||f(x) - f(y)|| <= L ||x - y||: 1, or of plain layers what their program shows."""
        return self.spec.lipschitz_bound(list(self.named_layers().values()), self)


class _PlainResidual(nnx.Module):
    """`models._lipschitz_cnn.plain_residual` with its parameters."""

    def __init__(self, features: int, kernel_size: int, *, layout: ConvLayout, rngs: nnx.Rngs):
        self.layout = layout
        window = (kernel_size,) * len(layout.spatial_dims)
        dtype = jax.dtypes.canonicalize_dtype(float)
        shape = layout.kernel_shape(window, features, features)
        self.kernel = nnx.Param(lecun_normal(layout)(rngs.params(), shape, dtype))
        self.bias = nnx.Param(jnp.zeros(features, dtype))

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        return plain_residual(xs, self.kernel[...], self.bias[...], self.layout)


def _make(layer: Layer, constrained: bool, rngs: nnx.Rngs) -> nnx.Module:
    dtype: Any = jax.dtypes.canonicalize_dtype(float)
    if layer.layout is None:
        dense = OrthogonalDense if constrained else nnx.Linear
        return dense(layer.into, layer.out, param_dtype=dtype, rngs=rngs)
    if layer.kind == "residual":
        if not constrained:
            return _PlainResidual(layer.out, layer.window, layout=layer.layout, rngs=rngs)
        numbers = layer.layout.dimension_numbers
        return SLLConv(layer.out, layer.window, layout=numbers, param_dtype=dtype, rngs=rngs)
    convolution = AOLConv if constrained else Conv
    return convolution(
        layer.into, layer.out, layer.window, strides=layer.strides,
        layout=layer.layout.dimension_numbers, param_dtype=dtype, rngs=rngs,
    )  # fmt: skip
