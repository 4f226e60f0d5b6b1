"""Networks of described layers as Flax linen modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn

from jacreg.linen import GaussianNoise

from .._layers import Convolution, Dense, dtype
from ._conv import Conv

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class _Network(nn.Module):
    spec: Any

    @nn.compact
    def __call__(self, xs: Float[Array, "..."], train: bool = False) -> Float[Array, "N K"]:
        """The outputs of a batch; `train` draws from the rngs "dropout" and "noise"."""
        return self.spec.forward(_Net(self.spec, train), xs)


class LeNet(_Network):
    """LeNet' of Hoffman et al. 2019 (see `LeNetSpec`): images in the layout -> logits `[N, K]`."""


class MLP(_Network):
    """Dense layers with an activation between (see `MLPSpec`): `[N, ...] -> [N, K]`."""


class _Net:
    """`models._layers.Net` during one call: a layer is made where it is applied."""

    batched = True

    def __init__(self, spec: Any, train: bool):
        self.layers = spec.layers()
        self.drop = nn.Dropout(getattr(spec, "dropout", 0.0), deterministic=not train)
        self.noise = GaussianNoise(getattr(spec, "noise", 0.0), deterministic=not train)

    def apply(self, name: str, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """The layer's output for a batch."""
        return _make(self.layers[name], name)(xs)

    def pooled(
        self, name: str, xs: Float[Array, "..."], activation: str, window: int
    ) -> Float[Array, "..."]:
        """Max-pooling of the activation of a convolution."""
        return _make(self.layers[name], name)(xs, pool=(activation, window))


def _make(layer: Any, name: str) -> Any:
    """The module of a description."""
    kind: Any = dtype()
    match layer:
        case Dense():
            return nn.Dense(layer.out, kernel_init=layer.kernel_init, param_dtype=kind, name=name)
        case Convolution():
            window = (layer.window,) * len(layer.layout.spatial_dims)
            return Conv(layer.out, window, **layer.options, name=name)
    raise TypeError(f"No layer of linen for {layer!r}.")
