"""The contractive penalty of one dense layer in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp

from .._structure import accumulate_dtype, common_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# The derivative of each activation in terms of its own value.
_SLOPES = {
    "sigmoid": lambda h: h * (1 - h),
    "tanh": lambda h: 1 - h * h,
    "softplus": lambda h: -jnp.expm1(-h),
}


def dense_contractive_penalty(
    hidden: Float[Array, "N hidden"],
    kernel: Float[Array, "in hidden"],
    activation: Literal["sigmoid", "tanh", "softplus"],
) -> Float[Array, " N"]:
    """Squared Frobenius norm of the Jacobian of activation(x @ kernel + bias), from its value.

    sum_j a'(z_j)^2 sum_i W_ij^2 with the derivative a' written in the hidden units
    h = a(z): h (1 - h) for the sigmoid, 1 - h^2 for tanh, 1 - exp(-h) for softplus.
    O(N hidden + in hidden), no Jacobian product. Equal to
    `contractive_penalty` of the same layer; no factor 1/2, as in Rifai et al. 2011
    (their equation for the sigmoid with tied weights).

    Args:
        hidden: `[N, hidden]`, the layer's output, after the activation.
        kernel: `[in, hidden]`, so that the layer is activation(xs @ kernel + bias).
        activation: "sigmoid", "tanh" or "softplus" (beta 1).

    Returns:
        `[N]`, sums over hidden units and inputs.

    Raises:
        ValueError: the activation is another, or the shapes do not fit.
        TypeError: an array is not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> hidden = jax.nn.sigmoid(jnp.zeros((2, 3)) @ jnp.ones((3, 4)))
        >>> jacreg.losses.dense_contractive_penalty(hidden, jnp.ones((3, 4)), "sigmoid")
        Array([0.75, 0.75], dtype=float32)
    """
    who = "dense_contractive_penalty"
    if not isinstance(activation, str) or activation not in _SLOPES:
        raise ValueError(
            f"{who}: activation must be one of {tuple(_SLOPES)}, got {activation!r}. For any "
            "other encoder use contractive_penalty(jacreg.linearize(encoder, xs))."
        )
    hidden, kernel = jnp.asarray(hidden), jnp.asarray(kernel)
    for name, array in (("hidden", hidden), ("kernel", kernel)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{who}: {name} must be floating point, got {array.dtype}.")
    if hidden.ndim != 2 or kernel.ndim != 2 or hidden.shape[1] != kernel.shape[1]:
        transposed = hidden.ndim == 2 and kernel.shape == (hidden.shape[1], *kernel.shape[1:])
        hint = " The kernel looks transposed: pass kernel.T." if transposed else ""
        raise ValueError(
            f"{who}: hidden must be [N, hidden] and kernel [in, hidden], got {hidden.shape} and "
            f"{kernel.shape}.{hint}"
        )
    dtype = common_dtype((hidden.dtype, kernel.dtype))
    wide = accumulate_dtype(dtype)
    slopes = _SLOPES[activation](hidden.astype(wide))
    return (jnp.square(slopes) @ jnp.sum(jnp.square(kernel.astype(wide)), axis=0)).astype(dtype)
