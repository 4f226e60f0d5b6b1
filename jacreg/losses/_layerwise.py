"""The chain-rule bound on the Jacobian norm as a penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .._layerwise import layerwise_log_frobenius
from .._methods import Auto, Method

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def layerwise_penalty(
    layers: Sequence[Callable[[PyTree], PyTree]],
    xs: Float[Array, "N *in"],
    method: Method = Auto(),
    *,
    key: Array | None = None,
) -> Float[Array, " N"]:
    """Sum over layers of the log Frobenius norm of each layer's Jacobian at its input.

    An upper bound on the log Frobenius norm of the whole network's Jacobian, since that
    norm is submultiplicative; the gradient of each layer's term is relative to its size.
    The `total` of `layerwise_log_frobenius`, which see; factor 1, a log and no square.

    Args:
        layers: batched functions, applied one after the other.
        xs: `[N, *in]`, the first layer's input.
        method: as for `frobenius_squared`.
        key: for the stochastic methods.

    Returns:
        `[N]`; -inf where a layer's Jacobian is zero.

    Raises:
        ValueError: there are no layers, or a stochastic method has no key.
        TypeError: `layers` is no sequence of functions, or the method does not fit.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> double = lambda xs: 2 * xs
        >>> jacreg.losses.layerwise_penalty([double, double], jnp.ones((2, 1))).round(3)
        Array([1.386, 1.386], dtype=float32)
    """
    return layerwise_log_frobenius(layers, xs, method, key=key).total
