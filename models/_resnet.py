"""What a residual network is, whatever the framework that runs it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp

from ._activations import Activation, activation
from ._checks import (
    check_image_spec,
    check_images,
    dropout_rate,
    positive_integer,
    positive_integers,
)
from ._layers import BatchNorm, Convolution, Dense, Layer, Net, own_axes
from .conv import CHANNELS_LAST, ConvLayout, transpose_axes

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Block(NamedTuple):
    """Two normalised 3x3 convolutions around which the input is added.

    Attributes:
      name: what its layers' names begin with.
      into, out: channels.
      strides: of the first convolution.
    """

    name: str
    into: int
    out: int
    strides: int

    @property
    def plain(self) -> bool:
        """Whether the input is added as it is; otherwise a 1x1 convolution brings it to shape."""
        return self.strides == 1 and self.into == self.out


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
    activation: Activation = "relu"

    def __post_init__(self):
        check_image_spec(self, each="stage")
        blocks = positive_integers("blocks", self.blocks, length=len(self.widths))
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "dropout", dropout_rate(self.dropout))
        positive_integer("num_classes", self.num_classes)
        activation(self.activation)

    def residual_blocks(self) -> list[Block]:
        """The blocks in order."""
        found, into = [], self.widths[0]
        for stage, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True), start=1):
            for index in range(1, count + 1):
                strides = 2 if stage > 1 and index == 1 else 1
                found.append(Block(f"block_{stage}_{index}", into, width, strides))
                into = width
        return found

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name; `NAME_norm` normalises what `NAME` gives."""
        found: dict[str, Layer] = {}
        layout, inner = self.layout, self.layout.following

        def normalized(name, into, out, window, strides, layout):
            found[name] = Convolution(
                into, out, window, layout, strides, init="he_normal", bias=False
            )
            found[f"{name}_norm"] = BatchNorm(out, layout.outputs)

        normalized("stem", self.input_shape[-1], self.widths[0], 3, 1, layout)
        for block in self.residual_blocks():
            name, into, out, strides = block
            normalized(f"{name}_first", into, out, 3, strides, inner)
            normalized(f"{name}_second", out, out, 3, 1, inner)
            if not block.plain:
                normalized(f"{name}_shortcut", into, out, 1, strides, inner)
        found["dense"] = Dense(self.widths[-1], self.num_classes)
        return found

    def forward(self, net: Net, xs: Float[Array, "..."]) -> Float[Array, "... K"]:
        """The logits of a batch or an example of images."""
        self.check(xs, batched=net.batched)
        act, axes = activation(self.activation), own_axes(net, self.layout.outputs)

        def normalized(name, hs):
            return net.apply(f"{name}_norm", net.apply(name, hs))

        hs = act(normalized("stem", xs))
        for block in self.residual_blocks():
            name = block.name
            ys = normalized(f"{name}_second", act(normalized(f"{name}_first", hs)))
            hs = act(ys + (hs if block.plain else normalized(f"{name}_shortcut", hs)))
        space = [place for place, letter in enumerate(axes) if letter in self.layout.spatial_dims]
        left = "".join(letter for letter in axes if letter in "NC")
        means = transpose_axes(jnp.mean(hs, tuple(space)), left, own_axes(net, "NC"))
        return net.apply("dense", net.drop(means))

    def check(self, xs, *, batched: bool) -> None:
        """Raises TypeError or ValueError where the images are not what the network takes."""
        any_size = (*(None for _ in self.input_shape[:-1]), self.input_shape[-1])
        check_images("The ResNet", xs, self.layout, any_size, batched=batched)
