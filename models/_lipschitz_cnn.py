"""What a convolutional network of Lipschitz constant 1 is."""

from __future__ import annotations

import dataclasses

from ._checks import check_images, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout

LAYERS = ("sll", "aol")


@dataclasses.dataclass(frozen=True)
class LipschitzCNNSpec:
    """A classifier of images that is 1-Lipschitz in the l2 norm for any weights.

    Each stage halves the resolution by a 2x2 convolution with strides (Prach and Lampert 2022),
    then has `blocks` 3x3 layers: "sll", residual (Araujo et al. 2023), or "aol", a convolution
    and MaxMin. Then two orthogonal dense layers with MaxMin between them.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (height, width, channels) of one image, each side divisible by the stages.
      num_classes: the number of logits.
      widths: channels of each stage, even.
      blocks: 3x3 layers a stage.
      hidden: width of the dense layer, even.
      layer: "sll" or "aol".
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    num_classes: int = 10
    widths: tuple[int, ...] = (16, 32)
    blocks: int = 2
    hidden: int = 128
    layer: str = "sll"

    def __post_init__(self):
        object.__setattr__(self, "layout", ConvLayout.of(self.layout))
        dims = len(self.layout.spatial_dims)
        shape = positive_integers("input_shape", self.input_shape, length=dims + 1)
        widths = positive_integers("widths", self.widths)
        if not widths:
            raise ValueError("widths must name at least one stage, got none.")
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "widths", widths)
        for name in ("num_classes", "blocks", "hidden"):
            positive_integer(name, getattr(self, name))
        if any(width % 2 for width in (*widths, self.hidden)):
            raise ValueError(
                f"widths and hidden must be even, for MaxMin takes pairs, got {widths} and "
                f"{self.hidden}."
            )
        if self.layer not in LAYERS:
            raise ValueError(f"layer must be one of {LAYERS}, got {self.layer!r}.")
        if min(shape[:-1]) < 2 ** len(widths):
            raise ValueError(
                f"widths has {len(widths)} stages that halve the image, which input_shape {shape} "
                "is too small for."
            )

    def check(self, xs, *, batched: bool) -> None:
        """Raises TypeError or ValueError where the images are not what the network takes."""
        check_images("The Lipschitz network", xs, self.layout, self.input_shape, batched=batched)
