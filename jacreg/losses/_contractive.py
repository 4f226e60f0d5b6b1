"""The contractive penalty of Rifai et al., for any encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._frobenius import NORM, frobenius_squared
from .._linearize import Linearization
from .._methods import Auto, Method
from ._checks import check_linearization, check_method_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def contractive_penalty(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Squared Frobenius norm of each example's encoder Jacobian.

    The second term of the contractive autoencoder of Rifai et al. 2011,
    `reconstruction + lambda * ||J_f(x)||_F^2`: a sum over hidden units and inputs
    without a factor 1/2, so it is twice `jacobian_penalty`. Our weight is their
    lambda where the reconstruction is summed over pixels and both are averaged
    (or both summed) over the examples.

    Args:
        lin: from `linearize`, of the hidden units (the encoder, not the logits).
        method: as for `frobenius_squared`; exact by default (`Auto()`). A single sigmoid,
            tanh or softplus layer has a closed form: `dense_contractive_penalty`.
        key: for the stochastic methods.

    Returns:
        `[N]`, sums over hidden units and inputs.

    Raises:
        ValueError: a stochastic method has no key.
        TypeError: the method does not give a Frobenius norm.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.ones((3, 2)), jnp.zeros((4, 3)))
        >>> jacreg.losses.contractive_penalty(lin)
        Array([6., 6., 6., 6.], dtype=float32)
    """
    check_linearization("contractive_penalty", lin)
    check_method_key("contractive_penalty", NORM, method, key)
    return frobenius_squared(lin, method, key=key)
