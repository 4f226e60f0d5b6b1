"""What a convolutional network of Lipschitz constant 1 is, and the same without the constraint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

import jacreg
from jacreg._lipschitz._group_sort import max_min
from jacreg._lipschitz._layers import draw_aol, draw_sll
from jacreg._lipschitz._layout import Convolution

from ._checks import check_image_spec, check_images, positive_integer
from ._layers import Net, dtype, own_axes
from .conv import CHANNELS_LAST, ConvLayout, add_bias, conv, flatten, transpose_axes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

LAYERS = ("sll", "aol")


class LipschitzLayer(NamedTuple):
    """One layer with parameters, a `models._layers.Layer`.

    Attributes:
      kind: "halving" (2x2 with strides of 2), "residual", "convolution" (3x3 both) or "dense".
      into, out: channels or features.
      layout: of images; None for a dense layer.
      paired: whether MaxMin follows.
      constrained: whether its Lipschitz constant is 1 for any weights.
    """

    kind: str
    into: int
    out: int
    layout: ConvLayout | None = None
    paired: bool = False
    constrained: bool = True

    @property
    def window(self) -> int:
        """Places of the kernel an axis."""
        return 2 if self.kind == "halving" else 3

    @property
    def strides(self) -> int:
        """Pixels from one place of the kernel to the next."""
        return 2 if self.kind == "halving" else 1

    @property
    def kernel_axes(self) -> tuple[str, str]:
        """The kernel's own and canonical axes."""
        layout = self.layout
        return ("IO", "IO") if layout is None else (layout.kernel, layout.canonical.kernel)

    def draw(self, key: Array) -> dict[str, Array]:
        """Initial arrays: convolutions of norm 1, and zeros for biases and scales."""
        numbers = None if self.layout is None else self.layout.canonical.dimension_numbers
        if numbers is not None and self.kind != "residual":
            window = Convolution.of("draw", numbers, self.window, self.strides)
            kernel = draw_aol(window, self.into, self.out, key, dtype())
        else:
            dims = 0 if numbers is None else len(numbers[0]) - 2
            shape = (*(self.window,) * dims, self.into, self.out)
            kernel = draw_sll(shape, prod(shape[:-1]), key, dtype())
        found = {"kernel": kernel, "bias": jnp.zeros(self.out, dtype())}
        if self.kind == "residual" and self.constrained:
            found["scale"] = jnp.zeros(self.out, dtype())
        return found


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
    layer: Annotated[str, LAYERS] = "sll"
    constrained: bool = True

    def __post_init__(self):
        check_image_spec(self, each="stage")
        shape, widths = self.input_shape, self.widths
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

    def layers(self) -> dict[str, LipschitzLayer]:
        """The layers with parameters by name, in order."""
        found, into, layout = {}, self.input_shape[-1], self.layout
        inner = "residual" if self.layer == "sll" else "convolution"

        def add(name, kind, out, layout=None, paired=True):
            found[name] = LipschitzLayer(kind, into, out, layout, paired, self.constrained)

        for stage, width in enumerate(self.widths, start=1):
            add(f"halving_{stage}", "halving", width, layout)
            into, layout = width, layout.following
            for block in range(1, self.blocks + 1):
                paired = inner == "convolution"
                add(f"{inner}_{stage}_{block}", inner, width, layout, paired)
        into *= prod(-(-side // 2 ** len(self.widths)) for side in self.input_shape[:-1])
        add("dense_1", "dense", self.hidden)
        into = self.hidden
        add("dense_2", "dense", self.num_classes, paired=False)
        return found

    def forward(self, net: Net, xs: Float[Array, "..."]) -> Float[Array, "... K"]:
        """The logits of a batch or an example of images."""
        self.check(xs, batched=net.batched)
        axes = own_axes(net, self.layout.outputs)
        for name, layer in self.layers().items():
            if name == "dense_1":
                xs = flatten(xs, axes)
            xs = net.apply(name, xs)
            if layer.paired:
                xs = max_min(xs, axis=axes.index("C") if layer.layout else -1)
        return xs

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
