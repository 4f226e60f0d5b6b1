"""A convolutional network of Lipschitz constant 1 as a Flax nnx module."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from flax import nnx

from jacreg.nnx import (
    AOLConv,
    LipschitzSequential,
    MaxMin,
    OrthogonalDense,
    SLLConv,
)

from .._lipschitz_cnn import LipschitzCNNSpec
from ..conv import flatten

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LipschitzCNN(nnx.Module):
    """A 1-Lipschitz classifier (see `LipschitzCNNSpec`): images -> logits `[N, K]`."""

    def __init__(self, spec: LipschitzCNNSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        layout, layers = spec.layout, []
        channels = spec.input_shape[-1]
        for width in spec.widths:
            order = layout.dimension_numbers
            layers.append(AOLConv(channels, width, 2, strides=2, layout=order, rngs=rngs))
            layout = layout.following
            order = layout.dimension_numbers
            axis = layout.outputs.index("C")
            layers.append(MaxMin(axis=axis))
            for _ in range(spec.blocks):
                if spec.layer == "sll":
                    layers.append(SLLConv(width, 3, layout=order, rngs=rngs))
                else:
                    layers.append(AOLConv(width, width, 3, layout=order, rngs=rngs))
                    layers.append(MaxMin(axis=axis))
            channels = width
        sides = [-(-side // 2 ** len(spec.widths)) for side in spec.input_shape[:-1]]
        self.images = LipschitzSequential(layers)
        self.vectors = LipschitzSequential(
            [
                OrthogonalDense(prod(sides) * channels, spec.hidden, rngs=rngs),
                MaxMin(),
                OrthogonalDense(spec.hidden, spec.num_classes, rngs=rngs),
            ]
        )

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, " N K"]:
        """The logits of a batch."""
        self.spec.check(xs, batched=True)
        return self.vectors(flatten(self.images(xs), self.spec.layout.following.outputs))

    def lipschitz_bound(self) -> Float[Array, ""]:
        """1: the product of the layers' bounds."""
        return self.images.lipschitz_bound() * self.vectors.lipschitz_bound()
