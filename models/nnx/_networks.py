"""The networks that exist in several frameworks, as Flax nnx modules of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._network import Classifier, Net, Network, Staged

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class LeNet(Staged):
    """LeNet' of Hoffman et al. 2019 (see `LeNetSpec`): images in the layout -> logits `[N, K]`."""


class MLP(Staged):
    """Dense layers with an activation between (see `MLPSpec`): `[N, ...] -> [N, K]`."""


class ResNet(Classifier):
    """A residual network (see `ResNetSpec`): images in the layout -> logits `[N, K]`.

    In train mode batch normalisation uses the batch's statistics and updates the running ones;
    after `.eval()` it uses the running ones.
    """


class Autoencoder(Network):
    """Encoder, decoder and classifier (see `AutoencoderSpec`).

    `jacreg.nnx.function(model, method="encode")` is the function whose Jacobian a contractive
    penalty takes.
    """

    def kernels(self) -> list[Float[Array, "into out"]]:
        """Those of the encoder, in order."""
        return self.spec.kernels(Net(self))

    def encode(self, xs: Float[Array, "..."]) -> Float[Array, "N H"]:
        """The hidden units of a batch of vectors, or of images in the layout."""
        return self.spec.encode(Net(self), xs)

    def decode(self, hidden: Float[Array, "N H"]) -> Float[Array, "N D"]:
        """The logits of the reconstruction; `jax.nn.sigmoid` makes them pixels in [0, 1]."""
        return self.spec.decode(Net(self), hidden)

    def classify(self, xs: Float[Array, "..."]) -> Float[Array, "N K"]:
        """The logits of the classifier on the hidden units, for the fine-tuning."""
        return Net(self).apply("classifier", self.encode(xs))

    def __call__(self, xs: Float[Array, "..."]) -> Float[Array, "N D"]:
        """The logits of the reconstruction of `spec.vectors(xs)`."""
        return self.decode(self.encode(xs))


class _Score(Network):
    def __call__(
        self, xs: Float[Array, "..."], ts: Float[Array, " N"] | None = None
    ) -> Float[Array, "..."]:
        """The scores of a batch; `ts` are the noise levels or times of a conditional network."""
        return self.spec.forward(Net(self), xs, ts)


class ScoreConv(_Score):
    """A score field on images (see `ScoreConvSpec`): images in the layout -> scores, same shape."""


class ScoreUNet(_Score):
    """A score field on images (see `ScoreUNetSpec`): images in the layout -> scores, same shape."""


class ScoreMLP(_Score):
    """A score field on vectors (see `ScoreMLPSpec`): `[N, D] -> [N, D]`."""
