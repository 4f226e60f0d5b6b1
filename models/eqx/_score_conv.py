"""A local score network: convolutions and pointwise activations alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax

from .._activations import activation
from .._score import ScoreConvSpec
from ..conv import ConvLayout, add_bias
from ._condition import Condition, shifts_of
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ScoreConv(eqx.Module):
    """A score field on images (see `ScoreConvSpec`): one image -> its score, same shape."""

    layers: tuple[Conv, ...]
    condition: Condition | None
    spec: ScoreConvSpec = eqx.field(static=True)

    def __init__(self, spec: ScoreConvSpec, *, key: jax.Array):
        self.spec = spec
        keys = jax.random.split(key, len(spec.widths) + 2)
        channels = (spec.input_shape[-1], *spec.widths, spec.input_shape[-1])
        layouts = stack_layouts(spec.layout, len(channels) - 1)
        self.layers = tuple(
            Conv(channels[i], channels[i + 1], spec.kernel_size, layout=layout, key=keys[i])
            for i, layout in enumerate(layouts)
        )
        self.condition = Condition(spec.widths, key=keys[-1]) if spec.conditional else None

    def __call__(
        self, x: Float[Array, "..."], t: Float[Array, ""] | None = None
    ) -> Float[Array, "..."]:
        """The score of one image; `t` is the noise level or time of a conditional network."""
        self.spec.check(x)
        act = activation(self.spec.activation)
        shifts = shifts_of(self.condition, t)
        for index, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if shifts is not None:
                x = add_bias(x, shifts[index], layer.layout.example_axes("outputs"))
            x = act(x)
        return self.layers[-1](x)


def stack_layouts(layout: ConvLayout, depth: int) -> list[ConvLayout]:
    """The layouts of a stack whose last output has the axes of its first input."""
    if depth == 1:
        return [ConvLayout(layout.inputs, layout.kernel, layout.inputs)]
    last = ConvLayout(layout.outputs, layout.kernel, layout.inputs)
    return [layout, *[layout.following] * (depth - 2), last]
