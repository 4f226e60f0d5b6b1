"""Dense layers in Equinox that are 1-Lipschitz in the l2 norm whatever their parameters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp

from .._lipschitz._fixed import orthogonal_bound, sll_dense_bound
from .._lipschitz._layers import (
    check_sizes,
    draw_sll,
    orthogonal_numbers,
    sll_dense,
    sll_dense_numbers,
)
from ._fixed_kernels import OneLipschitz

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class OrthogonalDense(OneLipschitz):
    """Dense layer whose matrix has orthonormal rows or columns: all singular values are 1.

    The Cayley transform of the weight (Trockman and Kolter 2021, arXiv:2104.07167), for which
    any weight will do. With as many outputs as inputs it keeps the norm of every gradient.

    Attributes:
        weight: `[out, in]`, free.
        bias: `[out]`, or None.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.OrthogonalDense(2, 2, key=jax.random.key(0))
        >>> jnp.linalg.norm(layer(jnp.array([3.0, 4.0]))).round()
        Array(5., dtype=float32)
    """

    weight: Array
    bias: Array | None
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        key: PRNGKeyArray,
    ) -> None:
        """Make the layer; `key` gives the weight.

        Raises:
            ValueError: a size is no positive int.
        """
        check_sizes("OrthogonalDense", in_size=in_size, out_size=out_size)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.weight = draw_sll((out_size, in_size), in_size, key, dtype)
        self.bias = jnp.zeros(out_size, dtype) if use_bias else None
        self.in_size, self.out_size = in_size, out_size
        self.fixed = None

    def __call__(
        self, x: Float[Array, " in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " out"]:
        """Return W x + b of one example."""
        del key
        y = x @ self._numbers()["kernel"].astype(x.dtype)
        return y if self.bias is None else y + self.bias.astype(x.dtype)

    def _computed(self) -> dict[str, Array]:
        return orthogonal_numbers(self.weight.T)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return orthogonal_bound(numbers)


class SLLDense(OneLipschitz):
    """Residual dense layer x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, arXiv:2303.03169).

    T is the diagonal matrix that makes it 1-Lipschitz for any W.

    Attributes:
        weight: W^T, `[size, size]`, free.
        scale: `[size]`, free: the paper's q before it is made positive.
        bias: `[size]`.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.SLLDense(2, key=jax.random.key(0))
        >>> xs, ys = jnp.ones(2), -jnp.ones(2)
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    weight: Array
    scale: Array
    bias: Array

    def __init__(self, size: int, *, dtype: Any = None, key: PRNGKeyArray) -> None:
        """Make the layer; `key` gives the weight.

        Raises:
            ValueError: `size` is no positive int.
        """
        check_sizes("SLLDense", size=size)
        dtype = jnp.result_type(float) if dtype is None else dtype
        self.weight = draw_sll((size, size), size, key, dtype)
        self.scale, self.bias = jnp.zeros(size, dtype), jnp.zeros(size, dtype)
        self.fixed = None

    def __call__(
        self, x: Float[Array, " size"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " size"]:
        """Return the residual layer's output of one example."""
        del key
        return sll_dense(x, self._numbers(), self.bias).astype(x.dtype)

    def _computed(self) -> dict[str, Array]:
        return sll_dense_numbers(self.weight.T, self.scale)

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return sll_dense_bound(numbers)
