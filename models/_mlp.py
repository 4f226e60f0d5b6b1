"""What a multilayer perceptron is, whatever the framework that runs it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._activations import Activation, Initializer, activation, initializer
from ._checks import dropout_rate, noise_scale, positive_integer, positive_integers
from ._layers import Dense, Layer, Net
from ._vectors import vectors
from .conv import CHANNELS_LAST, ConvLayout

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class MLPSpec:
    """Dense layers with an activation between, on vectors or on flattened images.

    The default is the network of Hoffman et al.'s official example: 784-200-200-10, ReLU,
    Xavier-uniform.

    Attributes:
      layout: the order of the axes of images; an input with another number of axes than the
        layout is flattened as it is.
      input_shape: the shape of one example: (height, width, channels), or (features,).
      num_classes: the number of outputs.
      hidden: the widths of the hidden layers; none makes a linear map.
      activation: the name of the activation after each hidden layer.
      initializer: the name of the initialiser of the kernels; biases start at 0.
      dropout: the rate after each hidden layer.
      noise: the standard deviation of Gaussian noise on the input and on each hidden layer, in
        training alone (Camuto et al. 2020).
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    num_classes: int = 10
    hidden: tuple[int, ...] = (200, 200)
    activation: Activation = "relu"
    initializer: Initializer = "glorot_uniform"
    dropout: float = 0.0
    noise: float = 0.0

    def __post_init__(self):
        for name in ("input_shape", "hidden"):
            object.__setattr__(self, name, positive_integers(name, getattr(self, name)))
        object.__setattr__(self, "layout", ConvLayout.of(self.layout))
        object.__setattr__(self, "dropout", dropout_rate(self.dropout))
        object.__setattr__(self, "noise", noise_scale(self.noise))
        positive_integer("num_classes", self.num_classes)
        activation(self.activation)
        initializer(self.initializer)

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name."""
        widths = (math.prod(self.input_shape), *self.hidden, self.num_classes)
        return {
            f"dense_{index}": Dense(*pair, self.initializer)
            for index, pair in enumerate(itertools.pairwise(widths), start=1)
        }

    def forward(self, net: Net, xs: Float[Array, "..."]) -> Float[Array, "... K"]:
        """The outputs of a batch or an example of vectors, or of images in the layout."""
        hs = net.noise(self.vectors(xs, batched=net.batched))
        *hidden, last = self.layers()
        for name in hidden:
            hs = net.noise(net.drop(activation(self.activation)(net.apply(name, hs))))
        return net.apply(last, hs)

    def stages(self, net: Net) -> list[Callable]:
        """The layers as functions; in evaluation their composition is the network."""
        *hidden, last = self.layers()
        act = activation(self.activation)
        stages: list[Callable] = [lambda hs, name=name: act(net.apply(name, hs)) for name in hidden]
        first, *others = *stages, lambda hs: net.apply(last, hs)
        return [lambda xs: first(self.vectors(xs, batched=net.batched)), *others]

    def vectors(self, xs, *, batched: bool):
        """Each example as a vector, images in the canonical order.

        Raises TypeError for integer inputs, ValueError for another number of features.
        """
        return vectors("The MLP", xs, self.layout, self.input_shape, batched=batched)
