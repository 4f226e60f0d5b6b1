"""What a residual network is."""

from __future__ import annotations

import dataclasses

from ._activations import activation
from ._checks import check_images, dropout_rate, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout


@dataclasses.dataclass(frozen=True)
class ResNetSpec:
    """A residual network of He et al. 2016 with batch normalisation and the stem for CIFAR.

    A 3x3 stem; stages of basic blocks (two 3x3 convolutions), each stage but the first at half
    the resolution; global average; dropout; dense. The default, `resnet_small`, has one block a
    stage; `resnet18` has widths (64, 128, 256, 512) and two blocks a stage.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (height, width, channels) of one image. The network takes any size.
      num_classes: the number of logits.
      widths: channels of each stage.
      blocks: the number of blocks of each stage.
      dropout: the rate before the dense layer.
      activation: the name of the activation.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (32, 32, 3)
    num_classes: int = 10
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (1, 1, 1)
    dropout: float = 0.0
    activation: str = "relu"

    def __post_init__(self):
        object.__setattr__(self, "layout", ConvLayout.of(self.layout))
        dims = len(self.layout.spatial_dims)
        shape = positive_integers("input_shape", self.input_shape, length=dims + 1)
        widths = positive_integers("widths", self.widths)
        if not widths:
            raise ValueError("widths must name at least one stage, got none.")
        blocks = positive_integers("blocks", self.blocks, length=len(widths))
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "dropout", dropout_rate(self.dropout))
        positive_integer("num_classes", self.num_classes)
        activation(self.activation)

    def check(self, xs, *, batched: bool) -> None:
        """Raises TypeError or ValueError where the images are not what the network takes."""
        any_size = (*(None for _ in self.input_shape[:-1]), self.input_shape[-1])
        check_images("The ResNet", xs, self.layout, any_size, batched=batched)
