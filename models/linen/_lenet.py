"""LeNet' as a Flax linen module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax

from .._activations import activation
from .._lenet import LeNetSpec
from ..conv import flatten, glorot_uniform
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LeNet(nn.Module):
    """LeNet' of Hoffman et al. 2019 (see `LeNetSpec`): images in the layout -> logits `[N, K]`."""

    spec: LeNetSpec

    @nn.compact
    def __call__(self, xs: Float[Array, "..."], train: bool = False) -> Float[Array, "N K"]:
        """The logits of a batch; with `train`, dropout draws from the rng "dropout"."""
        spec = self.spec
        spec.check(xs, batched=True)
        act, inner, shapes = (
            activation(spec.activation),
            spec.layout.following,
            spec.kernel_shapes(),
        )

        def convolution(name, layout, padding):
            return Conv(
                shapes[name][-1],
                shapes[name][:2],
                layout=layout,
                padding=padding,
                kernel_init=glorot_uniform(layout),
                lowering=spec.lowering,
                name=name,
            )

        def dense(name):
            return nn.Dense(
                shapes[name][-1],
                kernel_init=jax.nn.initializers.glorot_uniform(),
                param_dtype=jax.dtypes.canonicalize_dtype(float),
                name=name,
            )

        drop = nn.Dropout(spec.dropout, deterministic=not train)
        pool = (spec.activation, 2)
        hs = convolution("conv_1", spec.layout, 2)(xs, pool=pool)
        hs = convolution("conv_2", inner, "VALID")(hs, pool=pool)
        hs = flatten(hs, inner.outputs)
        hs = drop(act(dense("dense_1")(hs)))
        hs = drop(act(dense("dense_2")(hs)))
        return dense("dense_3")(hs)
