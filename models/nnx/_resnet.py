"""Residual networks with batch normalisation as Flax nnx modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from .._activations import activation
from .._resnet import ResNetSpec
from ..conv import ConvLayout, global_average_pool, he_normal
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ResNet(nnx.Module):
    """A residual network (see `ResNetSpec`): images in the layout -> logits `[N, K]`.

    In train mode batch normalisation uses the batch's statistics and updates the running ones;
    after `.eval()` it uses the running ones.
    """

    def __init__(self, spec: ResNetSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        inner = spec.layout.following
        width = spec.widths[0]
        self.stem = _Normalized(spec.input_shape[-1], width, 3, 1, spec.layout, rngs)
        blocks = []
        for stage, (features, count) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(Block(width, features, stride, inner, spec.activation, rngs=rngs))
                width = features
        self.blocks = nnx.List(blocks)
        self.dropout = nnx.Dropout(spec.dropout, rngs=rngs) if spec.dropout else None
        self.dense = nnx.Linear(
            width, spec.num_classes, param_dtype=jax.dtypes.canonicalize_dtype(float), rngs=rngs
        )

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "N K"]:
        """The logits of a batch."""
        self.spec.check(xs, batched=True)
        hs = activation(self.spec.activation)(self.stem(xs))
        for block in self.blocks:
            hs = block(hs)
        hs = global_average_pool(hs, self.spec.layout.following)
        if self.dropout is not None:
            hs = self.dropout(hs)
        return self.dense(hs)


class Block(nnx.Module):
    """Two normalised 3x3 convolutions around which the input is added."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        stride: int,
        layout: ConvLayout,
        activation: str,
        *,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.first = _Normalized(in_features, out_features, 3, stride, layout, rngs)
        self.second = _Normalized(out_features, out_features, 3, 1, layout, rngs)
        same = stride == 1 and in_features == out_features
        self.shortcut = (
            None if same else _Normalized(in_features, out_features, 1, stride, layout, rngs)
        )

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The block's output for a batch."""
        act = activation(self.activation)
        ys = self.second(act(self.first(xs)))
        return act(ys + (xs if self.shortcut is None else self.shortcut(xs)))


class _Normalized(nnx.Module):
    """A convolution without bias, then batch normalisation over the layout's channel axis."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        window: int,
        stride: int,
        layout: ConvLayout,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(
            in_features,
            out_features,
            window,
            layout=layout,
            strides=stride,
            use_bias=False,
            kernel_init=he_normal(layout),
            rngs=rngs,
        )
        dtype = jax.dtypes.canonicalize_dtype(float)
        self.norm = nnx.BatchNorm(
            out_features,
            axis=layout.outputs.index("C"),
            momentum=0.9,
            param_dtype=dtype,
            rngs=rngs,
        )
        # Flax keeps these in single precision whatever param_dtype is.
        self.norm.mean = nnx.BatchStat(jnp.zeros(out_features, dtype))
        self.norm.var = nnx.BatchStat(jnp.ones(out_features, dtype))

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.norm(self.conv(xs))
