"""What the autoencoders of the contractive family are, whatever the framework that runs them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

from ._activations import Activation, Initializer, activation, initializer
from ._checks import positive_integer, positive_integers
from ._layers import Bias, Dense, Layer, OpenNet
from ._vectors import vectors
from .conv import CHANNELS_LAST, ConvLayout

if TYPE_CHECKING:
    from jaxtyping import Array, Float


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
    activation: Activation = "sigmoid"
    initializer: Initializer = "glorot_uniform"
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

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name, the decoder's counted backwards."""
        found: dict[str, Layer] = {}
        pairs = list(enumerate(itertools.pairwise((self.features, *self.hidden)), start=1))
        for index, (into, out) in pairs:
            found[f"encoder_{index}"] = Dense(into, out, self.initializer)
        for index, (into, out) in reversed(pairs):
            found[f"decoder_{index}"] = (
                Bias(into) if self.tied else Dense(out, into, self.initializer)
            )
        found["classifier"] = Dense(self.hidden[-1], self.num_classes, self.initializer)
        return found

    def kernels(self, net: OpenNet) -> list[Float[Array, "into out"]]:
        """Those of the encoder, in order."""
        return [net.kernel(f"encoder_{index + 1}") for index in range(len(self.hidden))]

    def encode(self, net: OpenNet, xs: Float[Array, "..."]) -> Float[Array, "... H"]:
        """The hidden units of a batch or an example."""
        hs = self.vectors(xs, batched=net.batched)
        for index in range(1, len(self.hidden) + 1):
            hs = activation(self.activation)(net.apply(f"encoder_{index}", hs))
        return hs

    def decode(self, net: OpenNet, hs: Float[Array, "... H"]) -> Float[Array, "... D"]:
        """The logits of the reconstruction."""
        for index in reversed(range(1, len(self.hidden) + 1)):
            if self.tied:
                hs = hs @ net.kernel(f"encoder_{index}").T
            hs = net.apply(f"decoder_{index}", hs)
            hs = activation(self.activation)(hs) if index > 1 else hs
        return hs

    def vectors(self, xs, *, batched: bool = True):
        """Each example as a vector, images in the canonical order: what is reconstructed.

        Raises TypeError for integer inputs, ValueError for another number of features.
        """
        return vectors("The autoencoder", xs, self.layout, self.input_shape, batched=batched)
