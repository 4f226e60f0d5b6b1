"""The networks that exist in several frameworks, as Equinox modules of one example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax

from ._network import Net, Network, Staged

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LeNet(Staged):
    """LeNet' of Hoffman et al. 2019 (see `LeNetSpec`): one image in the layout -> logits `[K]`."""


class MLP(Staged):
    """Dense layers with an activation between (see `MLPSpec`), for one example."""


class ResNet(Network):
    """A residual network (see `ResNetSpec`): one image and a state -> logits `[K]` and a state.

    `models.build` gives the pair (model, state), as `equinox.nn.make_with_state` does. Batch
    normalisation uses the batch's statistics and updates the running ones in the state; the batch
    axis of `jax.vmap` is then called "batch". In inference mode it uses the running ones.
    """

    def __call__(
        self, x: Float[Array, "..."], state: eqx.nn.State, *, key: jax.Array | None = None
    ) -> tuple[Float[Array, " K"], eqx.nn.State]:
        """The logits of one image; dropout, unless in inference mode, draws from `key`."""
        net = Net(self, key, state)
        logits = self.spec.forward(net, x)
        assert net.state is not None
        return logits, net.state


class Autoencoder(Network):
    """Encoder, decoder and classifier of one example (see `AutoencoderSpec`).

    `jacreg.eqx.function(model, method="encode")` is the function whose Jacobian a contractive
    penalty takes.
    """

    def kernels(self) -> list[Float[Array, "into out"]]:
        """Those of the encoder, in order."""
        return self.spec.kernels(Net(self))

    def encode(self, x: Float[Array, "..."]) -> Float[Array, " H"]:
        """The hidden units of one vector, or of one image in the layout."""
        return self.spec.encode(Net(self), x)

    def decode(self, hidden: Float[Array, " H"]) -> Float[Array, " D"]:
        """The logits of the reconstruction; `jax.nn.sigmoid` makes them pixels in [0, 1]."""
        return self.spec.decode(Net(self), hidden)

    def classify(self, x: Float[Array, "..."]) -> Float[Array, " K"]:
        """The logits of the classifier on the hidden units, for the fine-tuning."""
        return Net(self).apply("classifier", self.encode(x))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, " D"]:
        """The logits of the reconstruction of `spec.vectors(x, batched=False)`."""
        return self.decode(self.encode(x))


class _Score(Network):
    def __call__(
        self, x: Float[Array, "..."], t: Float[Array, ""] | None = None
    ) -> Float[Array, "..."]:
        """The score of one example; `t` is the noise level or time of a conditional network."""
        return self.spec.forward(Net(self), x, t)


class ScoreConv(_Score):
    """A score field on images (see `ScoreConvSpec`): one image -> its score, same shape."""


class ScoreUNet(_Score):
    """A score field on images (see `ScoreUNetSpec`): one image -> its score, same shape."""


class ScoreMLP(_Score):
    """A score field on vectors (see `ScoreMLPSpec`): `[D] -> [D]`."""
