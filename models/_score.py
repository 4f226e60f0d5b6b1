"""What the score networks are: fields s(x) with the shape of x, for d log p / dx."""

from __future__ import annotations

import dataclasses

from ._activations import activation, initializer
from ._checks import check_images, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout


@dataclasses.dataclass(frozen=True)
class ScoreConvSpec:
    """A plain stack of convolutions with a smooth activation between: local, any image size.

    An output pixel sees as many pixels to each side as there are convolutions (of window 3), so
    the exact divergence by colouring takes (convolutions + 1)^2 * channels tangents: 16 for
    the default on one channel, whatever the image size.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (spatial sizes, channels); the network takes any spatial size.
      widths: channels of the hidden layers; one convolution more than widths.
      kernel_size: the window, odd so that it is centred.
      activation: the name of the activation.
      conditional: whether the network takes a noise level or time beside the image.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (32, 32)
    kernel_size: int = 3
    activation: str = "silu"
    conditional: bool = False

    def __post_init__(self):
        check_image_spec(self)
        if positive_integer("kernel_size", self.kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")

    def check(self, x) -> None:
        """Raises TypeError or ValueError where the image is not what the network takes."""
        any_size = (*(None for _ in self.input_shape[:-1]), self.input_shape[-1])
        check_images("The score network", x, self.layout, any_size, batched=False)


@dataclasses.dataclass(frozen=True)
class ScoreUNetSpec:
    """A U-Net of convolutions alone (no normalisation, no attention), so that it stays local.

    A 3x3 convolution in; for each further width a 2x2 convolution of stride 2 down and a 3x3
    convolution; back up by 2x2 transposed convolutions, joined to the skip by a 3x3 one; a
    convolution of window 1 out.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (spatial sizes, channels); sizes divisible by 2^(len(widths) - 1).
      widths: channels at each resolution, finest first; one level for each after the first.
      activation: the name of the activation.
      conditional: whether the network takes a noise level or time beside the image.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (32, 64)
    activation: str = "silu"
    conditional: bool = False

    def __post_init__(self):
        check_image_spec(self)
        if not self.widths:
            raise ValueError("widths must name at least one resolution, got none.")
        factor = 2 ** (len(self.widths) - 1)
        if any(size % factor for size in self.input_shape[:-1]):
            raise ValueError(
                f"A U-Net with widths {self.widths} halves the image {len(self.widths) - 1} times: "
                f"its sizes must be divisible by {factor}, got input_shape {self.input_shape}."
            )

    def check(self, x) -> None:
        """Raises TypeError or ValueError where the image is not what the network takes."""
        check_images("The score network", x, self.layout, self.input_shape, batched=False)


@dataclasses.dataclass(frozen=True)
class ScoreMLPSpec:
    """Dense layers on vectors: a score field, or the gradient of a scalar log density.

    Attributes:
      layout: not used; networks on vectors have one order.
      input_shape: (features,).
      hidden: widths of the hidden layers.
      activation: the name of the activation; a smooth one, as the score is differentiated.
      initializer: the name of the initialiser of the kernels.
      potential: whether the network is a scalar whose gradient is the score.
      conditional: whether the network takes a noise level or time beside the vector.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (2,)
    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "softplus"
    initializer: str = "glorot_uniform"
    potential: bool = False
    conditional: bool = False

    def __post_init__(self):
        shape = positive_integers("input_shape", self.input_shape, length=1)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "hidden", positive_integers("hidden", self.hidden))
        activation(self.activation)
        initializer(self.initializer)


def check_image_spec(spec) -> None:
    """Bring layout, input_shape and widths to their types. Raises TypeError or ValueError."""
    layout = ConvLayout.of(spec.layout)
    object.__setattr__(spec, "layout", layout)
    dims = len(layout.spatial_dims)
    shape = positive_integers("input_shape", spec.input_shape, length=dims + 1)
    object.__setattr__(spec, "input_shape", shape)
    object.__setattr__(spec, "widths", positive_integers("widths", spec.widths))
    activation(spec.activation)
