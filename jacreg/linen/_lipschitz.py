"""Layers in linen that are 1-Lipschitz in the l2 norm whatever their parameters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from .._lipschitz._group_sort import check_group_size, group_sort
from .._lipschitz._layers import check_sizes, draw_sll
from .._lipschitz._orthogonal import orthogonal

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class GroupSort(nn.Module):
    """Sorts each `group_size` neighbouring channels, largest first (Anil et al. 2019).

    Where no two are equal it permutes them: 1-Lipschitz, and the gradient keeps its norm, which
    a relu halves on the way (arXiv:1811.05381, section 4).

    Attributes:
        group_size: how many neighbours are sorted together; it divides the channels.
        axis: of the channels, in a batch.

    Raises:
        ValueError: `group_size` is below 1, or does not divide the channels.

    Example:
        >>> import jax.numpy as jnp, jacreg.linen
        >>> jacreg.linen.GroupSort(3).apply({}, jnp.array([[1.0, 3.0, 2.0]]))
        Array([[3., 2., 1.]], dtype=float32)
    """

    group_size: int = 2
    axis: int = -1

    @nn.nowrap
    def lipschitz_bound(self) -> float:
        """1: it permutes."""
        return 1.0

    def __call__(self, xs: Float[Array, "N *in"]) -> Float[Array, "N *in"]:
        """Return the sorted groups."""
        size = check_group_size(self.group_size)
        return group_sort(xs, size, axis=self.axis, who="jacreg.linen.GroupSort")


class MaxMin(nn.Module):
    """Larger and smaller of each two neighbouring channels: `GroupSort(2)`.

    Attributes:
        axis: of the channels, in a batch.

    Example:
        >>> import jax.numpy as jnp, jacreg.linen
        >>> jacreg.linen.MaxMin().apply({}, jnp.array([[1.0, 3.0, 4.0, 2.0]]))
        Array([[3., 1., 4., 2.]], dtype=float32)
    """

    axis: int = -1

    @nn.nowrap
    def lipschitz_bound(self) -> float:
        """1: it permutes."""
        return 1.0

    def __call__(self, xs: Float[Array, "N *in"]) -> Float[Array, "N *in"]:
        """Return larger and smaller of each pair."""
        return group_sort(xs, 2, axis=self.axis, who="jacreg.linen.MaxMin")


class OrthogonalDense(nn.Module):
    """Dense layer whose matrix has orthonormal rows or columns: all singular values are 1.

    The Cayley transform of the kernel (Trockman and Kolter 2021, arXiv:2104.07167), for which
    any kernel will do. With as many outputs as inputs it keeps the norm of every gradient.

    Attributes:
        in_features, out_features: sizes.
        use_bias: whether a vector is added.
        param_dtype: of the parameters.

    Raises:
        ValueError: a size is no positive int.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.linen
        >>> layer, xs = jacreg.linen.OrthogonalDense(2, 2), jnp.array([[3.0, 4.0]])
        >>> jnp.linalg.norm(layer.init_with_output(jax.random.key(0), xs)[0]).round()
        Array(5., dtype=float32)
    """

    in_features: int
    out_features: int
    use_bias: bool = True
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def lipschitz_bound(self) -> float:
        """1 in exact arithmetic, for any parameters; rounding adds less than 1e-5."""
        return 1.0

    @nn.compact
    def __call__(self, xs: Float[Array, "*N in"]) -> Float[Array, "*N out"]:
        """Return xs W + b."""
        into, out = self.in_features, self.out_features
        check_sizes("OrthogonalDense", in_features=into, out_features=out)
        kernel = self.param(
            "kernel", lambda key: draw_sll((into, out), into, key, self.param_dtype)
        )
        ys = xs @ orthogonal(kernel).astype(xs.dtype)
        if not self.use_bias:
            return ys
        bias = self.param("bias", nn.initializers.zeros, (out,), self.param_dtype)
        return ys + bias.astype(xs.dtype)
