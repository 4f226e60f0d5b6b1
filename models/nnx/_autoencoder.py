"""The autoencoder of the contractive family as a Flax nnx module."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from .._activations import activation, initializer
from .._autoencoder import AutoencoderSpec

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Autoencoder(nnx.Module):
    """Encoder, decoder and classifier (see `AutoencoderSpec`).

    The encoder is a module of its own, so that `jacreg.nnx.function(model.encoder)` is the
    function whose Jacobian a contractive penalty takes.
    """

    def __init__(self, spec: AutoencoderSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        dtype = jax.dtypes.canonicalize_dtype(float)
        self.encoder = Encoder(spec, rngs=rngs)
        widths = (spec.features, *spec.hidden)
        backwards = list(itertools.pairwise(reversed(widths)))
        self.biases = nnx.List(nnx.Param(jnp.zeros(outputs, dtype)) for _, outputs in backwards)
        init = initializer(spec.initializer)
        self.kernels = (
            None
            if spec.tied
            else nnx.List(nnx.Param(init(rngs.params(), shape, dtype)) for shape in backwards)
        )
        self.classifier = nnx.Linear(
            spec.hidden[-1],
            spec.num_classes,
            kernel_init=init,
            param_dtype=dtype,
            rngs=rngs,
        )

    def encode(self, xs: Float[Array, "N ..."]) -> Float[Array, "N H"]:
        """The hidden units of a batch of vectors, or of images in the layout."""
        return self.encoder(xs)

    def decode(self, hidden: Float[Array, "N H"]) -> Float[Array, "N D"]:
        """The logits of the reconstruction; `jax.nn.sigmoid` makes them pixels in [0, 1]."""
        if self.kernels is None:
            kernels = [layer.kernel[...].T for layer in reversed(self.encoder.layers)]
        else:
            kernels = [kernel[...] for kernel in self.kernels]
        act = activation(self.spec.activation)
        for index, (kernel, bias) in enumerate(zip(kernels, self.biases, strict=True)):
            hidden = (act(hidden) if index else hidden) @ kernel + bias[...]
        return hidden

    def classify(self, xs: Float[Array, "N ..."]) -> Float[Array, "N K"]:
        """The logits of the classifier on the hidden units, for the fine-tuning."""
        return self.classifier(self.encode(xs))

    def __call__(self, xs: Float[Array, "N ..."]) -> Float[Array, "N D"]:
        """The logits of the reconstruction of `spec.vectors(xs)`."""
        return self.decode(self.encode(xs))


class Encoder(nnx.Module):
    """Dense layers, each with the activation: a batch of examples to hidden units `[N, H]`."""

    def __init__(self, spec: AutoencoderSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.layers = nnx.List(
            nnx.Linear(
                *shape,
                kernel_init=initializer(spec.initializer),
                param_dtype=jax.dtypes.canonicalize_dtype(float),
                rngs=rngs,
            )
            for shape in itertools.pairwise((spec.features, *spec.hidden))
        )

    def __call__(self, xs: Float[Array, "N ..."]) -> Float[Array, "N H"]:
        """The hidden units of a batch of vectors, or of images in the layout."""
        hidden = self.spec.vectors(xs)
        for layer in self.layers:
            hidden = activation(self.spec.activation)(layer(hidden))
        return hidden
