"""What a convolutional network of Lipschitz constant 1 is, and the same without the constraint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

import jacreg
from jacreg._lipschitz._layers import draw_aol, draw_sll
from jacreg._lipschitz._layout import Convolution

from ._checks import check_images, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout, add_bias, conv, transpose_axes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._weights import Weights

LAYERS = ("sll", "aol")


class Layer(NamedTuple):
    """One layer with parameters.

    Attributes:
      kind: "halving" (2x2 with strides of 2), "residual", "convolution" (3x3 both) or "dense".
      into, out: channels or features.
      layout: of images; None for a dense layer.
      paired: whether MaxMin follows.
    """

    kind: str
    into: int
    out: int
    layout: ConvLayout | None = None
    paired: bool = False

    @property
    def window(self) -> int:
        """Places of the kernel an axis."""
        return 2 if self.kind == "halving" else 3

    @property
    def strides(self) -> int:
        """Pixels from one place of the kernel to the next."""
        return 2 if self.kind == "halving" else 1

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Of the kernel in the canonical order."""
        dims = 0 if self.layout is None else len(self.layout.spatial_dims)
        return (*(self.window,) * dims, self.into, self.out)


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
      constrained: False for the same network of plain layers, to stand beside it: the kernels are
        used as they are, in x - W relu(W^T x + b) too, and nothing bounds their norms.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (28, 28, 1)
    num_classes: int = 10
    widths: tuple[int, ...] = (16, 32)
    blocks: int = 2
    hidden: int = 128
    layer: str = "sll"
    constrained: bool = True

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
        if not isinstance(self.constrained, bool):
            raise TypeError(f"constrained must be true or false, got {self.constrained!r}.")
        if min(shape[:-1]) < 2 ** len(widths):
            raise ValueError(
                f"widths has {len(widths)} stages that halve the image, which input_shape {shape} "
                "is too small for."
            )

    def layers(self) -> dict[str, Layer]:
        """The layers in order."""
        found, into, layout = {}, self.input_shape[-1], self.layout
        kind = "residual" if self.layer == "sll" else "convolution"
        for stage, width in enumerate(self.widths, start=1):
            found[f"halving_{stage}"] = Layer("halving", into, width, layout, paired=True)
            layout = layout.following
            for block in range(1, self.blocks + 1):
                name = f"{kind}_{stage}_{block}"
                found[name] = Layer(kind, width, width, layout, paired=kind == "convolution")
            into = width
        sides = [-(-side // 2 ** len(self.widths)) for side in self.input_shape[:-1]]
        found["dense_1"] = Layer("dense", prod(sides) * into, self.hidden, paired=True)
        found["dense_2"] = Layer("dense", self.hidden, self.num_classes)
        return found

    def kernel_shapes(self) -> dict[str, tuple[int, ...]]:
        """The layers in order, with the shape of each kernel in the canonical order."""
        return {name: layer.kernel_shape for name, layer in self.layers().items()}

    def draw_weights(self, key: Array) -> Weights:
        """Initial parameters: convolutions of norm 1, and zeros for biases and scales."""
        layers, dtype = self.layers(), jax.dtypes.canonicalize_dtype(float)
        found: Weights = {}
        for each, (name, layer) in zip(
            jax.random.split(key, len(layers)), layers.items(), strict=True
        ):
            shape = layer.kernel_shape
            if layer.kind in ("halving", "convolution"):
                assert layer.layout is not None
                numbers = layer.layout.canonical.dimension_numbers
                window = Convolution.of("draw", numbers, layer.window, layer.strides)
                kernel = draw_aol(window, layer.into, layer.out, each, dtype)
            else:
                kernel = draw_sll(shape, prod(shape[:-1]), each, dtype)
            found[name] = {"kernel": kernel, "bias": jnp.zeros(layer.out, dtype)}
            if layer.kind == "residual" and self.constrained:
                found[name]["scale"] = jnp.zeros(layer.out, dtype)
        return found

    def lipschitz_bound(self, layers: Sequence[Any], network: Any) -> Float[Array, ""]:
        """The network's constant: its layers' own, or what the program of its batches shows."""
        if self.constrained:
            return jnp.asarray(prod(layer.lipschitz_bound() for layer in layers))
        axes = "N" + self.layout.example_axes()

        def batch_first(xs):
            return network(transpose_axes(xs, axes, self.layout.inputs))

        shape = ConvLayout(axes, self.layout.kernel, axes).input_shape(1, self.input_shape)
        return jacreg.lipschitz_bound(
            batch_first, jax.ShapeDtypeStruct(shape, jnp.result_type(float))
        )

    def check(self, xs, *, batched: bool) -> None:
        """Raises TypeError or ValueError where the images are not what the network takes."""
        check_images("The Lipschitz network", xs, self.layout, self.input_shape, batched=batched)


def plain_residual(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    bias: Float[Array, " C"],
    layout: ConvLayout,
) -> Float[Array, "..."]:
    """x - W relu(W^T x + b) of a batch, W^T being a convolution with zeros around the image."""
    same = ConvLayout(layout.inputs, layout.kernel, layout.inputs)
    hidden, transpose = jax.vjp(lambda images: conv(images, kernel, same), xs)
    hidden = jax.nn.relu(add_bias(hidden, bias, layout.inputs))
    return transpose_axes(xs - transpose(hidden)[0], layout.inputs, layout.outputs)
