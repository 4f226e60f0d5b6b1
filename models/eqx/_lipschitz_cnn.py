"""A convolutional network of Lipschitz constant 1 as an Equinox module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jacreg.eqx import AOLConv, MaxMin, OrthogonalDense, SLLConv

from .._lipschitz_cnn import Layer, LipschitzCNNSpec, plain_residual
from ..conv import ConvLayout, flatten, lecun_normal
from ._conv import Conv
from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LipschitzCNN(eqx.Module):
    """A 1-Lipschitz classifier (see `LipschitzCNNSpec`): one image -> logits `[K]`."""

    layers: dict[str, Any]
    spec: LipschitzCNNSpec = eqx.field(static=True)

    def __init__(self, spec: LipschitzCNNSpec, *, key: jax.Array):
        self.spec = spec
        layers = spec.layers()
        keys = jax.random.split(key, len(layers))
        self.layers = {
            name: _make(layer, spec.constrained, each)
            for each, (name, layer) in zip(keys, layers.items(), strict=True)
        }

    def named_layers(self) -> dict[str, eqx.Module]:
        """The layers with parameters, by their names in `LipschitzCNNSpec.kernel_shapes`."""
        return {name: self.layers[name] for name in self.spec.layers()}

    def __call__(
        self, x: Float[Array, "..."], *, key: jax.Array | None = None
    ) -> Float[Array, " K"]:
        """The logits of one example."""
        del key
        self.spec.check(x, batched=False)
        axes = self.spec.layout.following.example_axes("outputs")
        for name, layer in self.spec.layers().items():
            if name == "dense_1":
                x = flatten(x, axes)
            x = self.layers[name](x)
            if layer.paired:
                x = MaxMin(axis=axes.index("C") if layer.layout else -1)(x)
        return x

    def lipschitz_bound(self) -> Float[Array, ""]:
        """||f(x) - f(y)|| <= L ||x - y||: 1, or of plain layers what their program shows."""
        batch_axis = self.spec.layout.batch_axis
        batched = jax.vmap(self, in_axes=batch_axis)
        return self.spec.lipschitz_bound(list(self.named_layers().values()), batched)


class _PlainResidual(eqx.Module):
    """`models._lipschitz_cnn.plain_residual` with its parameters, of one example."""

    kernel: jax.Array
    bias: jax.Array
    layout: ConvLayout = eqx.field(static=True)

    def __init__(self, features: int, kernel_size: int, *, layout: ConvLayout, key: jax.Array):
        self.layout = layout
        window = (kernel_size,) * len(layout.spatial_dims)
        dtype = jax.dtypes.canonicalize_dtype(float)
        shape = layout.kernel_shape(window, features, features)
        self.kernel = lecun_normal(layout)(key, shape, dtype)
        self.bias = jnp.zeros(features, dtype)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        layout = self.layout
        xs = jnp.expand_dims(x, layout.batch_axis)
        ys = plain_residual(xs, self.kernel, self.bias, layout)
        return jnp.squeeze(ys, layout.outputs.index("N"))


def _make(layer: Layer, constrained: bool, key: jax.Array) -> eqx.Module:
    if layer.layout is None:
        if constrained:
            return OrthogonalDense(layer.into, layer.out, key=key)
        return dense((layer.into, layer.out), "lecun_normal", key=key)
    if layer.kind == "residual":
        if not constrained:
            return _PlainResidual(layer.out, layer.window, layout=layer.layout, key=key)
        numbers = layer.layout.dimension_numbers
        return SLLConv(layer.out, layer.window, layout=numbers, key=key)
    convolution = AOLConv if constrained else Conv
    return convolution(
        layer.into, layer.out, layer.window, strides=layer.strides,
        layout=layer.layout.dimension_numbers, key=key,
    )  # fmt: skip
