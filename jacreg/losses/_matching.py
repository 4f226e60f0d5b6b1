"""Jacobians with targets: Sobolev training and Jacobian matching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._jacobian import jacobian
from .._linearize import Linearization
from .._structure import example_squared_norm
from ._checks import check_linearization, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def jacobian_matching(
    lin: Linearization, targets: Float[Array, "N *out *in"]
) -> Float[Array, " N"]:
    """Squared distance of each example's Jacobian from a target, ||J - T||_F^2.

    With zero targets it is `contractive_penalty`, twice `jacobian_penalty`. The Jacobian is
    dense, as the targets are: min(n, M) products.

    Source: Sobolev training (Czarnecki et al. 2017), derivative targets as in Lutter et
    al. 2019, targets other than zero in Cui et al. 2022. A mean squared error over the
    entries is ours divided by n * M.

    Args:
        lin: from `linearize`.
        targets: `[N, *out, *in]`, as `jacreg.jacobian(lin)` returns it.

    Returns:
        `[N]`, sums over outputs and inputs.

    Raises:
        ValueError: the targets do not have the shape of the Jacobian.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(jnp.sin, jnp.zeros((2, 3)))
        >>> jacreg.losses.jacobian_matching(lin, jnp.zeros((2, 3, 3)))
        Array([3., 3.], dtype=float32)
    """
    check_linearization("jacobian_matching", lin)
    dense = jacobian(lin)
    check_same_shape("jacobian_matching", "targets", targets, dense, "the Jacobian, [N, *out, *in]")
    return example_squared_norm(
        jax.tree.map(lambda j, t: j - jnp.asarray(t, j.dtype), dense, targets)
    )
