"""An nnx layer at spectral norm one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

import jax
import jax.numpy as jnp
from flax import nnx

from .._spectral_normalization import (
    check_example,
    check_spectral,
    converged_vector,
    normalized,
    normalized_bound,
    tracked_or_bounded,
)
from ._function import function

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class SpectralNormalized(nnx.Module):
    """A layer y = A x + b as y = A x / s + b, with s the true operator norm of A.

    Any affine layer: Linear, Conv, ConvTranspose, `models.nnx.Conv`, in one to three
    dimensions, with any stride, dilation, padding, groups and layout. The norm
    is that of the map itself on inputs of `in_shape`, by its products with vectors;
    `nnx.SpectralNorm` (Miyato et al. 2018) normalises the kernel as a matrix, which leaves
    a 3x3 convolution at a norm near 2.

    The constructor iterates to convergence. In training each call takes a few Lanczos
    steps from the vector of the last one, which follow the parameters as they move;
    after `eval()` nothing is updated. No gradient goes through the vector, the norm's own
    goes into the parameters. `train` and `eval` switch it, as they switch BatchNorm,
    and so does `statistics` of `jacreg.nnx.function`.

    With `bound=True` it divides by `jacreg.operator_norm_bound` instead, anew at each call: never
    too small, so the norm is at most 1, and above 0.99 on the inputs that bound is close for.
    Without, s is a value from below, behind by as much as the parameters moved since the last
    steps reached: `lipschitz_bound()` says by how much the norm may be above 1.

    Attributes:
        layer: the wrapped layer, with its parameters as they are.
        vector: right singular vector of A, an `nnx.BatchStat`.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> layer = jacreg.nnx.SpectralNormalized(layer, in_shape=3, key=jax.random.key(0))
        >>> lin = jacreg.linearize(jacreg.nnx.function(layer), jnp.ones((1, 3)))
        >>> jacreg.spectral_norm(lin, key=jax.random.key(1)).round()
        Array([1.], dtype=float32)
    """

    def __init__(
        self,
        layer: nnx.Module,
        *,
        in_shape: SupportsIndex | Sequence[SupportsIndex],
        key: PRNGKeyArray,
        num_steps: int = 4,
        bound: bool = False,
        batch_axis: int = 0,
        use_running_average: bool | None = False,
    ) -> None:
        """Wrap a layer.

        Args:
            layer: called as `layer(xs)` on a batch.
            in_shape: shape of one input, without the batch axis.
            key: for the random start of the iteration.
            num_steps: Lanczos steps a call in training; they cost that many products with
                A and its transpose, of one example.
            bound: whether to divide by an upper bound of the norm.
            batch_axis: where the input's batch axis is.
            use_running_average: True stops the updates; what `train` and `eval` set.

        Raises:
            ValueError: the layer is not affine, does not take `in_shape`, or its norm is 0.
            TypeError: `layer` is not callable.
        """
        self.layer = layer
        self.in_shape = check_spectral(layer, in_shape, num_steps)
        self.num_steps = num_steps
        self.bound = bound
        self.batch_axis = batch_axis
        self.use_running_average = use_running_average
        is_module = isinstance(layer, nnx.Module)
        leaves = jax.tree.leaves(nnx.state(layer, nnx.Param)) if is_module else []
        vector = converged_vector(self._one, self.in_shape, leaves, key=key)
        self.vector = nnx.BatchStat(vector)

    def __call__(
        self, xs: Float[Array, "..."], use_running_average: bool | None = None
    ) -> Float[Array, "..."]:
        """Return A xs / s + b.

        Raises:
            ValueError: the examples are not of `in_shape`, on which the norm depends.
        """
        if use_running_average is None:
            use_running_average = self.use_running_average
        axis = self.batch_axis % xs.ndim
        check_example(xs.shape[:axis] + xs.shape[axis + 1 :], self.in_shape)
        steps = 0 if use_running_average else self.num_steps
        tracked = tracked_or_bounded(self._one, self.vector[...], steps, self.bound)
        if not use_running_average and not self.bound:
            self.vector[...] = tracked.vector
        return normalized(self._apply(xs), tracked)

    def lipschitz_bound(self) -> Float[Array, ""]:
        """An upper bound of the layer's norm as it stands: 1 where `bound` is set."""
        return normalized_bound(self._one, self.vector[...], self.bound)

    def _one(self, x: Float[Array, " *in"]) -> Float[Array, " 1 *out"]:
        return self._apply(jnp.expand_dims(x, self.batch_axis))

    def _apply(self, xs: Float[Array, " N *in"]) -> Float[Array, " N *out"]:
        # A layer may write to its own variables when called (nnx.WeightNorm does), which
        # nnx forbids under the derivatives taken here: call a private copy.
        layer = function(self.layer) if isinstance(self.layer, nnx.Module) else self.layer
        return layer(xs)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set the mode, for `nnx.view`."""
        if use_running_average is not None:
            self.use_running_average = use_running_average
