"""Dense layers in nnx that are 1-Lipschitz in the l2 norm whatever their parameters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

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
    from jaxtyping import Array, Float


class OrthogonalDense(OneLipschitz):
    """Dense layer whose matrix has orthonormal rows or columns: all singular values are 1.

    The Cayley transform of the kernel (Trockman and Kolter 2021, arXiv:2104.07167), for which
    any kernel will do. With as many outputs as inputs it keeps the norm of every gradient.

    Attributes:
        kernel: `[in, out]`, free.
        bias: `[out]`, or None.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.OrthogonalDense(2, 2, rngs=nnx.Rngs(0))
        >>> jnp.linalg.norm(layer(jnp.array([[3.0, 4.0]]))).round()
        Array(5., dtype=float32)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Make the layer; `rngs` gives the kernel.

        Raises:
            ValueError: a size is no positive int.
        """
        check_sizes("OrthogonalDense", in_features=in_features, out_features=out_features)
        kernel = draw_sll((in_features, out_features), in_features, rngs.params(), param_dtype)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else None
        self.in_features, self.out_features = in_features, out_features

    def __call__(self, xs: Float[Array, "*N in"]) -> Float[Array, "*N out"]:
        """Return xs W + b."""
        ys = xs @ self._numbers()["kernel"].astype(xs.dtype)
        return ys if self.bias is None else ys + self.bias[...].astype(xs.dtype)

    def _computed(self) -> dict[str, Array]:
        return orthogonal_numbers(self.kernel[...])

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return orthogonal_bound(numbers)


class SLLDense(OneLipschitz):
    """Residual dense layer x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, arXiv:2303.03169).

    T is the diagonal matrix that makes it 1-Lipschitz for any W.

    Attributes:
        kernel: W, `[features, features]`, free.
        scale: `[features]`, free: the paper's q before it is made positive.
        bias: `[features]`.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.SLLDense(2, rngs=nnx.Rngs(0))
        >>> xs, ys = jnp.ones((1, 2)), -jnp.ones((1, 2))
        >>> bool(jnp.linalg.norm(layer(xs) - layer(ys)) <= jnp.linalg.norm(xs - ys))
        True
    """

    def __init__(self, features: int, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        """Make the layer; `rngs` gives the kernel.

        Raises:
            ValueError: `features` is no positive int.
        """
        check_sizes("SLLDense", features=features)
        self.kernel = nnx.Param(
            draw_sll((features, features), features, rngs.params(), param_dtype)
        )
        self.scale = nnx.Param(jnp.zeros(features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(features, param_dtype))
        self.features = features

    def __call__(self, xs: Float[Array, "*N features"]) -> Float[Array, "*N features"]:
        """Return the residual layer's output."""
        return sll_dense(xs, self._numbers(), self.bias[...]).astype(xs.dtype)

    def _computed(self) -> dict[str, Array]:
        return sll_dense_numbers(self.kernel[...], self.scale[...])

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        return sll_dense_bound(numbers)
