"""What the vector fields f(x, t) of continuous flows are."""

from __future__ import annotations

import dataclasses

from ._activations import Activation, activation
from ._checks import check_image_spec, check_images, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout


@dataclasses.dataclass(frozen=True)
class FlowSpec:
    """Concatsquash layers on vectors (Grathwohl et al. 2019): 64-64-64, tanh in their 2-D toys.

    Attributes:
      layout: not used; networks on vectors have one order.
      input_shape: (features,).
      hidden: widths of the hidden layers.
      activation: the name of the activation; a smooth one, as the field is integrated.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (2,)
    hidden: tuple[int, ...] = (64, 64, 64)
    activation: Activation = "tanh"

    def __post_init__(self):
        shape = positive_integers("input_shape", self.input_shape, length=1)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "hidden", positive_integers("hidden", self.hidden))
        activation(self.activation)


@dataclasses.dataclass(frozen=True)
class FlowConvSpec:
    """Concatsquash convolutions on images: local, so that the divergence by colouring is exact.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (spatial sizes, channels); the field takes any spatial size.
      widths: channels of the hidden layers; one convolution more than widths.
      kernel_size: the window, odd so that it is centred.
      activation: the name of the activation.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (16, 16)
    kernel_size: int = 3
    activation: Activation = "softplus"

    def __post_init__(self):
        check_image_spec(self)
        activation(self.activation)
        if positive_integer("kernel_size", self.kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")

    def check(self, x) -> None:
        """Raises TypeError or ValueError where the image is not what the field takes."""
        any_size = (*(None for _ in self.input_shape[:-1]), self.input_shape[-1])
        check_images("The flow's field", x, self.layout, any_size, batched=False)
