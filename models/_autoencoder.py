"""What the autoencoders of the contractive family are."""

from __future__ import annotations

import dataclasses
import math

from ._activations import activation, initializer
from ._checks import positive_integer, positive_integers
from ._vectors import vectors
from .conv import CHANNELS_LAST, ConvLayout


@dataclasses.dataclass(frozen=True)
class AutoencoderSpec:
    """An autoencoder with dense layers and, by default, tied weights (Rifai et al. 2011).

    h = sigmoid(W x + b) and reconstruction logits W^T h + c, 1000 units in the paper; a linear
    classifier on h serves the fine-tuning. What is contractive, denoising or plain about it is
    the loss.

    Attributes:
      layout: the order of the axes of images; other inputs are flattened as they are.
      input_shape: the shape of one example: (height, width, channels), or (features,).
      hidden: widths of the encoder's layers; the decoder mirrors them.
      num_classes: of the classifier for the fine-tuning.
      activation: the name of the activation after every layer but the last of the decoder.
      initializer: the name of the initialiser of the kernels; biases start at 0.
      tied: whether the decoder uses the encoder's kernels, transposed.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    hidden: tuple[int, ...] = (1000,)
    num_classes: int = 10
    activation: str = "sigmoid"
    initializer: str = "glorot_uniform"
    tied: bool = True

    def __post_init__(self):
        object.__setattr__(self, "layout", ConvLayout.of(self.layout))
        for name in ("input_shape", "hidden"):
            object.__setattr__(self, name, positive_integers(name, getattr(self, name)))
        if not self.hidden:
            raise ValueError("hidden must name at least one layer, got none.")
        if not isinstance(self.tied, bool):
            raise TypeError(f"tied must be true or false, got {self.tied!r}.")
        positive_integer("num_classes", self.num_classes)
        activation(self.activation)
        initializer(self.initializer)

    @property
    def features(self) -> int:
        """The number of entries of one example."""
        return math.prod(self.input_shape)

    def vectors(self, xs, *, batched: bool = True):
        """Each example as a vector, images in the canonical order: what is reconstructed.

        Raises TypeError for integer inputs, ValueError for another number of features.
        """
        return vectors("The autoencoder", xs, self.layout, self.input_shape, batched=batched)
