"""The Jacobian penalty of Hoffman, Roberts and Yaida."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._frobenius import NORM, frobenius_squared
from .._linearize import Linearization
from .._methods import Method, Projection
from ._checks import check_linearization, check_method_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def jacobian_penalty(
    lin: Linearization, method: Method = Projection(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Half the squared Frobenius norm of each example's input-output Jacobian.

    Its batch mean is the criterion of Hoffman, Roberts and Yaida 2019
    (arXiv:1908.02729), (1/2) mean_b ||J_b||_F^2, with their default estimator: one
    probe on the unit sphere, factor C (algorithm 1; equation 8 drops the factor).
    Their loss is `task + lambda * mean`, on logits.

    Args:
        lin: from `linearize`, of the logits.
        method: as for `frobenius_squared`.
        key: for the stochastic methods.

    Returns:
        `[N]`, sums over outputs and inputs.

    Raises:
        ValueError: a stochastic method has no key.
        TypeError: the method does not give a Frobenius norm.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.ones((3, 2)), jnp.zeros((4, 3)))
        >>> jacreg.losses.jacobian_penalty(lin, jacreg.Exact())
        Array([3., 3., 3., 3.], dtype=float32)
    """
    check_linearization("jacobian_penalty", lin)
    check_method_key("jacobian_penalty", NORM, method, key)
    return 0.5 * frobenius_squared(lin, method, key=key)
