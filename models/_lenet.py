"""What LeNet' is, whatever the framework that runs it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._activations import Activation, activation
from ._checks import check_images, dropout_rate, positive_integer, positive_integers
from ._layers import Convolution, Dense, Layer, Net, own_axes
from .conv import CHANNELS_LAST, ConvLayout, flatten

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class LeNetSpec:
    """LeNet' of Hoffman, Roberts and Yaida 2019: two 5x5 convolutions and three dense layers.

    Convolution 1-6 (padding 2), tanh, max-pool 2; convolution 6-16, tanh, max-pool 2; dense
    400-120-84-10 with tanh between, dropout after both hidden dense layers.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (height, width, channels) of one image, in this order in every layout.
      num_classes: the number of logits.
      dropout: the rate after both hidden dense layers.
      activation: the name of the activation between layers.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    num_classes: int = 10
    dropout: float = 0.0
    activation: Activation = "tanh"

    def __post_init__(self):
        shape = positive_integers("input_shape", self.input_shape, length=3)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "layout", ConvLayout.of(self.layout))
        object.__setattr__(self, "dropout", dropout_rate(self.dropout))
        positive_integer("num_classes", self.num_classes)
        activation(self.activation)
        if set(self.layout.spatial_dims) != {"H", "W"}:
            raise ValueError(
                f"LeNet' needs a layout with the spatial letters H and W, got {self.layout}."
            )
        if min(shape[:2]) < 12:
            raise ValueError(f"LeNet' needs images of at least 12 x 12, got input_shape {shape}.")

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name: Glorot-uniform kernels, as in the paper."""
        height, width, channels = self.input_shape
        flat = math.prod((size // 2 - 4) // 2 for size in (height, width)) * 16

        def convolution(into, out, layout, padding):
            return Convolution(into, out, 5, layout, padding=padding, init="glorot_uniform")

        return {
            "conv_1": convolution(channels, 6, self.layout, 2),
            "conv_2": convolution(6, 16, self.layout.following, "VALID"),
            "dense_1": Dense(flat, 120, "glorot_uniform"),
            "dense_2": Dense(120, 84, "glorot_uniform"),
            "dense_3": Dense(84, self.num_classes, "glorot_uniform"),
        }

    def forward(self, net: Net, xs: Float[Array, "..."]) -> Float[Array, "... K"]:
        """The logits of a batch or an example of images."""
        self.check(xs, batched=net.batched)
        *hidden, last = self.stages(net)
        for index, stage in enumerate(hidden):
            xs = stage(xs) if index < 2 else net.drop(stage(xs))
        return last(xs)

    def stages(self, net: Net) -> list[Callable]:
        """The layers as functions; in evaluation their composition is the network."""
        act, axes = activation(self.activation), own_axes(net, self.layout.outputs)
        return [
            lambda xs: net.pooled("conv_1", xs, self.activation, 2),
            lambda hs: net.pooled("conv_2", hs, self.activation, 2),
            lambda hs: act(net.apply("dense_1", flatten(hs, axes))),
            lambda hs: act(net.apply("dense_2", hs)),
            lambda hs: net.apply("dense_3", hs),
        ]

    def check(self, xs, *, batched: bool) -> None:
        """Raises TypeError or ValueError where the images are not what the network takes."""
        check_images("LeNet'", xs, self.layout, self.input_shape, batched=batched)
