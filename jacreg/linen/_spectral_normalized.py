"""A linen layer at spectral norm one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import linen as nn

from .._spectral_normalization import (
    check_example,
    check_spectral,
    converged_vector,
    normalized,
    tracked_or_bounded,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class SpectralNormalized(nn.Module):
    """A layer y = A x + b as y = A x / s + b, with s the true operator norm of A.

    Any affine layer: Dense, Conv, ConvTranspose, `models.linen.Conv`, in one to three
    dimensions, with any stride, dilation, padding, groups and layout. The norm
    is that of the map itself on inputs of the shape that `init` saw, by its products with
    vectors; `nn.SpectralNorm` (Miyato et al. 2018) normalises the kernel as a matrix, which
    leaves a 3x3 convolution at a norm near 2.

    `init` iterates to convergence. In training each call takes a few Lanczos steps from
    the vector of the last one, which follow the parameters as they move; with
    `use_running_average` nothing is updated. No gradient goes through the vector, the
    norm's own goes into the parameters. Called as BatchNorm is, with
    `mutable=["batch_stats"]` in training, and switched by `statistics` of
    `jacreg.linen.function`.

    Attributes:
        layer: called as `layer(xs)` on a batch.
        num_steps: Lanczos steps a call in training; they cost that many products with A
            and its transpose, of one example.
        bound: whether to divide by `jacreg.operator_norm_bound`, never too small, at each call.
        batch_axis: where the input's batch axis is.
        use_running_average: True stops the updates; here or at the call.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg, jacreg.linen
        >>> from flax import linen as nn
        >>> layer, xs = jacreg.linen.SpectralNormalized(nn.Dense(4)), jnp.ones((2, 3))
        >>> variables = layer.init(jax.random.key(0), xs, use_running_average=False)
        >>> lin = jacreg.linearize(jacreg.linen.function(layer, variables), xs)
        >>> jacreg.spectral_norm(lin, key=jax.random.key(1)).round(2)
        Array([1., 1.], dtype=float32)
    """

    layer: nn.Module
    num_steps: int = 4
    bound: bool = False
    batch_axis: int = 0
    use_running_average: bool | None = None

    @nn.compact
    def __call__(
        self, xs: Float[Array, "..."], use_running_average: bool | None = None
    ) -> Float[Array, "..."]:
        """Return A xs / s + b; `batch_stats` holds the right singular vector of A as `vector`.

        Raises:
            ValueError: the layer is not affine, its norm is 0 at `init`, or the examples are
                not of the shape that `init` saw, on which the norm depends.
        """
        fixed = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        axis = self.batch_axis % xs.ndim
        shape = check_spectral(self.layer, xs.shape[:axis] + xs.shape[axis + 1 :], self.num_steps)
        ys = self.layer(xs)
        # Linen's own calls and JAX's derivatives do not mix: the layer apart from its scope.
        layer, variables = self.layer.unbind()

        def one(x: Float[Array, " *in"]) -> Float[Array, " 1 *out"]:
            return layer.apply(variables, jnp.expand_dims(x, axis))  # pyright: ignore[reportReturnType]

        def start() -> Float[Array, " *in"]:
            leaves = jax.tree.leaves(variables.get("params", {}))
            return converged_vector(one, shape, leaves, key=self.make_rng("params"))

        vector = self.variable("batch_stats", "vector", start)
        check_example(shape, vector.value.shape)
        steps = 0 if fixed else self.num_steps
        tracked = tracked_or_bounded(one, vector.value, steps, self.bound)
        if not fixed and not self.bound and not self.is_initializing():
            vector.value = tracked.vector
        return normalized(ys, tracked)
