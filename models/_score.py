"""What the score networks are: fields s(x) with the shape of x, for d log p / dx."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ._activations import Activation, Initializer, activation, initializer
from ._checks import check_image_spec, check_images, positive_integer, positive_integers
from ._condition import Shifts, shift_layers
from ._layers import Convolution, Dense, Layer, Net, own_axes
from .conv import CHANNELS_LAST, ConvLayout

if TYPE_CHECKING:
    from jaxtyping import Array, Float


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
    activation: Activation = "silu"
    conditional: bool = False

    def __post_init__(self):
        check_image_spec(self)
        activation(self.activation)
        if positive_integer("kernel_size", self.kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name."""
        channels = (self.input_shape[-1], *self.widths, self.input_shape[-1])
        layouts = stack_layouts(self.layout, len(channels) - 1)
        pairs = zip(itertools.pairwise(channels), layouts, strict=True)
        found: dict[str, Layer] = {
            f"conv_{index}": Convolution(into, out, self.kernel_size, layout)
            for index, ((into, out), layout) in enumerate(pairs, start=1)
        }
        return found | shift_layers(self.conditional, dict(zip(found, self.widths, strict=False)))

    def forward(
        self, net: Net, xs: Float[Array, "..."], ts: Float[Array, "..."] | None = None
    ) -> Float[Array, "..."]:
        """The score of a batch of images or of one; `ts` is the condition, one number each."""
        any_size = (*(None for _ in self.input_shape[:-1]), self.input_shape[-1])
        check_images("The score network", xs, self.layout, any_size, batched=net.batched)
        act = activation(self.activation)
        shifts = Shifts(net, self.conditional, ts, own_axes(net, self.layout.outputs))
        for index in range(1, len(self.widths) + 1):
            xs = act(shifts(f"conv_{index}", xs))
        return net.apply(f"conv_{len(self.widths) + 1}", xs)


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
    activation: Activation = "silu"
    conditional: bool = False

    def __post_init__(self):
        check_image_spec(self, each="resolution")
        activation(self.activation)
        factor = 2 ** (len(self.widths) - 1)
        if any(size % factor for size in self.input_shape[:-1]):
            raise ValueError(
                f"A U-Net with widths {self.widths} halves the image {len(self.widths) - 1} times: "
                f"its sizes must be divisible by {factor}, got input_shape {self.input_shape}."
            )

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name; levels are counted from 1, below the image's own."""
        layout, inner, channels = self.layout, self.layout.following, self.input_shape[-1]
        found: dict[str, Layer] = {"first": Convolution(channels, self.widths[0], 3, layout)}
        pairs = list(enumerate(itertools.pairwise(self.widths), start=1))
        for level, (fine, coarse) in pairs:
            found[f"down_{level}"] = Convolution(fine, coarse, 2, inner, strides=2)
            found[f"low_{level}"] = Convolution(coarse, coarse, 3, inner)
        # Spread by 2 with a window of 2: every output sees one input, sizes double.
        spread = ((1, 1),) * len(layout.spatial_dims)
        for level, (fine, coarse) in pairs:
            found[f"up_{level}"] = Convolution(
                coarse, fine, 2, inner, input_dilation=2, padding=spread
            )
            found[f"join_{level}"] = Convolution(2 * fine, fine, 3, inner)
        out = ConvLayout(layout.outputs, layout.kernel, layout.inputs)
        found["last"] = Convolution(self.widths[0], channels, 1, out)
        shifted = ("first", *(f"down_{level}" for level, _ in pairs))
        return found | shift_layers(self.conditional, dict(zip(shifted, self.widths, strict=True)))

    def forward(
        self, net: Net, xs: Float[Array, "..."], ts: Float[Array, "..."] | None = None
    ) -> Float[Array, "..."]:
        """The score of a batch of images or of one; `ts` is the condition, one number each."""
        check_images("The score network", xs, self.layout, self.input_shape, batched=net.batched)
        act, axes = activation(self.activation), own_axes(net, self.layout.outputs)
        shifts = Shifts(net, self.conditional, ts, axes)
        hs, skips = act(shifts("first", xs)), []
        for level in range(1, len(self.widths)):
            skips.append(hs)
            hs = act(net.apply(f"low_{level}", act(shifts(f"down_{level}", hs))))
        for level in reversed(range(1, len(self.widths))):
            both = [skips.pop(), act(net.apply(f"up_{level}", hs))]
            hs = act(net.apply(f"join_{level}", jnp.concatenate(both, axes.index("C"))))
        return net.apply("last", hs)


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
    activation: Activation = "softplus"
    initializer: Initializer = "glorot_uniform"
    potential: bool = False
    conditional: bool = False

    def __post_init__(self):
        shape = positive_integers("input_shape", self.input_shape, length=1)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "hidden", positive_integers("hidden", self.hidden))
        activation(self.activation)
        initializer(self.initializer)

    def layers(self) -> dict[str, Layer]:
        """The layers with parameters by name."""
        (features,) = self.input_shape
        widths = (features, *self.hidden, 1 if self.potential else features)
        found: dict[str, Layer] = {
            f"dense_{index}": Dense(*pair, self.initializer)
            for index, pair in enumerate(itertools.pairwise(widths), start=1)
        }
        return found | shift_layers(self.conditional, dict(zip(found, self.hidden, strict=False)))

    def forward(
        self, net: Net, xs: Float[Array, "... D"], ts: Float[Array, "..."] | None = None
    ) -> Float[Array, "... D"]:
        """The score of a batch of vectors or of one; `ts` is the condition, one number each."""
        if jnp.shape(xs)[net.batched :] != self.input_shape or jnp.ndim(xs) != 1 + net.batched:
            what = "a batch of vectors" if net.batched else "one vector"
            raise ValueError(
                f"The score network takes {what} of shape {self.input_shape}, got "
                f"{jnp.shape(xs)}.{'' if net.batched else ' Use jax.vmap for a batch.'}"
            )
        if not self.potential:
            return self.outputs(net, xs, ts)
        # Each row's potential depends on that row alone, so the sum's gradient is each one's.
        return jax.grad(lambda xs: jnp.sum(self.outputs(net, xs, ts)))(xs)

    def outputs(
        self, net: Net, xs: Float[Array, "... D"], ts: Float[Array, "..."] | None
    ) -> Float[Array, "... K"]:
        """What the dense layers return: the score, or the potential `[..., 1]`."""
        act = activation(self.activation)
        shifts = Shifts(net, self.conditional, ts, own_axes(net, "NC"))
        for index in range(1, len(self.hidden) + 1):
            xs = act(shifts(f"dense_{index}", xs))
        return net.apply(f"dense_{len(self.hidden) + 1}", xs)


def stack_layouts(layout: ConvLayout, depth: int) -> list[ConvLayout]:
    """The layouts of a stack whose last output has the axes of its first input."""
    if depth == 1:
        return [ConvLayout(layout.inputs, layout.kernel, layout.inputs)]
    last = ConvLayout(layout.outputs, layout.kernel, layout.inputs)
    return [layout, *[layout.following] * (depth - 2), last]
