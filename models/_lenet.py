"""What LeNet' is, whatever the framework that runs it."""

from __future__ import annotations

import dataclasses
import math

from ._activations import activation
from ._checks import check_images, dropout_rate, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout, Lowering


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
      lowering: "auto" takes the faster form of the convolutions on CPU, "definition" never.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    num_classes: int = 10
    dropout: float = 0.0
    activation: str = "tanh"
    lowering: Lowering = "auto"

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

    def kernel_shapes(self) -> dict[str, tuple[int, ...]]:
        """The layers in order, with the shape of each kernel in the canonical order."""
        height, width, channels = self.input_shape
        flat = math.prod((size // 2 - 4) // 2 for size in (height, width)) * 16
        return {
            "conv_1": (5, 5, channels, 6),
            "conv_2": (5, 5, 6, 16),
            "dense_1": (flat, 120),
            "dense_2": (120, 84),
            "dense_3": (84, self.num_classes),
        }

    @property
    def initializer(self) -> str:
        """Glorot-uniform kernels, as in the paper; biases start at 0."""
        return "glorot_uniform"

    def check(self, xs, *, batched: bool) -> None:
        """Raises TypeError or ValueError where the images are not what the network takes."""
        check_images("LeNet'", xs, self.layout, self.input_shape, batched=batched)
