"""LeNet' as a Flax nnx module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from flax import nnx

from .._activations import activation
from .._lenet import LeNetSpec
from .._pooled import activated_max_pool, convolved_max_pool
from ..conv import flatten, glorot_uniform
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LeNet(nnx.Module):
    """LeNet' of Hoffman et al. 2019 (see `LeNetSpec`): images in the layout -> logits `[N, K]`."""

    def __init__(self, spec: LeNetSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        shapes = spec.kernel_shapes()
        first, second = spec.layout, spec.layout.following

        def convolution(name, layout, padding):
            return Conv(
                shapes[name][-2],
                shapes[name][-1],
                shapes[name][:2],
                layout=layout,
                padding=padding,
                kernel_init=glorot_uniform(layout),
                lowering=spec.lowering,
                rngs=rngs,
            )

        def dense(name):
            return nnx.Linear(
                *shapes[name],
                kernel_init=jax.nn.initializers.glorot_uniform(),
                param_dtype=jax.dtypes.canonicalize_dtype(float),
                rngs=rngs,
            )

        self.conv_1 = convolution("conv_1", first, 2)
        self.conv_2 = convolution("conv_2", second, "VALID")
        self.dense_1, self.dense_2, self.dense_3 = map(dense, ("dense_1", "dense_2", "dense_3"))
        self.dropout = nnx.Dropout(spec.dropout, rngs=rngs) if spec.dropout else None

    def named_layers(self) -> dict[str, nnx.Module]:
        """The layers with parameters, by their names in `LeNetSpec.kernel_shapes`."""
        return {name: getattr(self, name) for name in self.spec.kernel_shapes()}

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "N K"]:
        """The logits of a batch."""
        self.spec.check(xs, batched=True)
        act, inner = activation(self.spec.activation), self.spec.layout.following
        drop = self.dropout or (lambda hs: hs)
        hs = self._pooled(self.conv_2, self._pooled(self.conv_1, xs))
        hs = flatten(hs, inner.outputs)
        hs = drop(act(self.dense_1(hs)))
        hs = drop(act(self.dense_2(hs)))
        return self.dense_3(hs)

    def stages(self) -> list[Callable]:
        """The layers as functions of a batch; in evaluation their composition is the network.

        What `jacreg.layerwise_log_frobenius` takes, for a layout whose batch axis is the first.
        """
        act, inner = activation(self.spec.activation), self.spec.layout.following
        return [
            lambda xs: self._pooled(self.conv_1, xs),
            lambda hs: self._pooled(self.conv_2, hs),
            lambda hs: act(self.dense_1(flatten(hs, inner.outputs))),
            lambda hs: act(self.dense_2(hs)),
            self.dense_3,
        ]

    def _pooled(self, layer: Conv, hs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The layer, the activation and max-pooling."""
        if type(layer) is not Conv or layer.bias is None:  # one that took the layer's place
            inner = self.spec.layout.following
            return activated_max_pool(layer(hs), self.spec.activation, 2, inner)
        return convolved_max_pool(
            hs,
            layer.kernel[...],
            layer.bias[...],
            layer.layout,
            self.spec.activation,
            2,
            padding=layer.padding,
            lowering=layer.lowering,
        )
