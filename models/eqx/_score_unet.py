"""A U-Net score network that stays local."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .._activations import activation
from .._score import ScoreUNetSpec
from ..conv import ConvLayout, add_bias
from ._condition import Condition, shifts_of
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class ScoreUNet(eqx.Module):
    """A score field on images (see `ScoreUNetSpec`): one image -> its score, same shape."""

    first: Conv
    downs: tuple[Conv, ...]
    lows: tuple[Conv, ...]
    ups: tuple[Conv, ...]
    joins: tuple[Conv, ...]
    last: Conv
    condition: Condition | None
    spec: ScoreUNetSpec = eqx.field(static=True)

    def __init__(self, spec: ScoreUNetSpec, *, key: jax.Array):
        self.spec = spec
        layout, inner, widths = spec.layout, spec.layout.following, spec.widths
        levels, dims = len(widths) - 1, len(layout.spatial_dims)
        keys = iter(jax.random.split(key, 4 * levels + 3))
        channels = spec.input_shape[-1]
        self.first = Conv(channels, widths[0], 3, layout=layout, key=next(keys))
        self.downs = tuple(
            Conv(widths[i], widths[i + 1], 2, layout=inner, strides=2, key=next(keys))
            for i in range(levels)
        )
        self.lows = tuple(
            Conv(width, width, 3, layout=inner, key=next(keys)) for width in widths[1:]
        )
        # Spread by 2 with a window of 2: every output sees one input, sizes double.
        self.ups = tuple(
            Conv(
                widths[i + 1],
                widths[i],
                2,
                layout=inner,
                input_dilation=2,
                padding=((1, 1),) * dims,
                key=next(keys),
            )
            for i in range(levels)
        )
        self.joins = tuple(
            Conv(2 * widths[i], widths[i], 3, layout=inner, key=next(keys)) for i in range(levels)
        )
        out = ConvLayout(layout.outputs, layout.kernel, layout.inputs)
        self.last = Conv(widths[0], channels, 1, layout=out, key=next(keys))
        self.condition = Condition(widths, key=next(keys)) if spec.conditional else None

    def __call__(
        self, x: Float[Array, "..."], t: Float[Array, ""] | None = None
    ) -> Float[Array, "..."]:
        """The score of one image; `t` is the noise level or time of a conditional network."""
        self.spec.check(x)
        act, axes = activation(self.spec.activation), self.first.layout.example_axes("outputs")
        shifts = shifts_of(self.condition, t)

        def shift(h, level):
            return h if shifts is None else add_bias(h, shifts[level], axes)

        h = act(shift(self.first(x), 0))
        skips = []
        for level, (down, low) in enumerate(zip(self.downs, self.lows, strict=True), start=1):
            skips.append(h)
            h = act(low(act(shift(down(h), level))))
        for up, join in zip(reversed(self.ups), reversed(self.joins), strict=True):
            h = act(join(jnp.concatenate([skips.pop(), act(up(h))], axes.index("C"))))
        return self.last(h)
