"""LeNet' as an Equinox module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .._activations import activation
from .._lenet import LeNetSpec
from .._pooled import activated_max_pool
from ..conv import flatten, glorot_uniform
from ._conv import Conv
from ._dense import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LeNet(eqx.Module):
    """LeNet' of Hoffman et al. 2019 (see `LeNetSpec`): one image in the layout -> logits `[K]`."""

    conv_1: Conv
    conv_2: Conv
    dense_1: eqx.nn.Linear
    dense_2: eqx.nn.Linear
    dense_3: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    spec: LeNetSpec = eqx.field(static=True)

    def __init__(self, spec: LeNetSpec, *, key: jax.Array):
        self.spec = spec
        shapes = spec.kernel_shapes()
        keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))

        def convolution(name, layout, padding):
            return Conv(
                shapes[name][-2],
                shapes[name][-1],
                shapes[name][:2],
                layout=layout,
                padding=padding,
                kernel_init=glorot_uniform(layout),
                lowering=spec.lowering,
                key=keys[name],
            )

        self.conv_1 = convolution("conv_1", spec.layout, 2)
        self.conv_2 = convolution("conv_2", spec.layout.following, "VALID")
        self.dense_1, self.dense_2, self.dense_3 = (
            dense(shapes[name], spec.initializer, key=keys[name])
            for name in ("dense_1", "dense_2", "dense_3")
        )
        self.dropout = eqx.nn.Dropout(spec.dropout)

    def named_layers(self) -> dict[str, eqx.Module]:
        """The layers with parameters, by their names in `LeNetSpec.kernel_shapes`."""
        return {name: getattr(self, name) for name in self.spec.kernel_shapes()}

    def __call__(
        self, x: Float[Array, "..."], *, key: jax.Array | None = None
    ) -> Float[Array, " K"]:
        """The logits of one example; dropout, unless in inference mode, draws from `key`."""
        self.spec.check(x, batched=False)
        act, inner = activation(self.spec.activation), self.spec.layout.following
        first, second = (None, None) if key is None else jax.random.split(key)
        h = _pool(self.conv_1(x), self.spec.activation, inner)
        h = _pool(self.conv_2(h), self.spec.activation, inner)
        h = flatten(h, inner.example_axes("outputs"))
        h = self.dropout(act(self.dense_1(h)), key=first)
        h = self.dropout(act(self.dense_2(h)), key=second)
        return self.dense_3(h)


def _pool(x, name, layout):
    axis = layout.batch_axis
    return jnp.squeeze(activated_max_pool(jnp.expand_dims(x, axis), name, 2, layout), axis)
