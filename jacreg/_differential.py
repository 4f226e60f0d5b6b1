"""Dense layers that carry their derivative forward beside their value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ._checks import check_positive

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    Elementwise = Callable[[Array], Array]

_ACTIVATIONS: dict[str, tuple[Elementwise, Elementwise]] = {
    "relu": (jax.nn.relu, lambda z: (z > 0).astype(z.dtype)),
    "tanh": (jnp.tanh, lambda z: 1 - jnp.tanh(z) ** 2),
    "cos": (jnp.cos, lambda z: -jnp.sin(z)),
    "identity": (lambda z: z, jnp.ones_like),
}


def check_activation(name: str, beta: float) -> None:
    """Raise unless this is an activation of a differential layer, with a usable `beta`."""
    known = (*_ACTIVATIONS, "softplus")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"DifferentialDense: activation must be one of {known}, got {name!r}.")
    check_positive("DifferentialDense", "beta", beta)


def _value_and_slope(name: str, beta: float, z: Array) -> tuple[Array, Array]:
    if name == "softplus":
        return jax.nn.softplus(beta * z) / beta, jax.nn.sigmoid(beta * z)
    value, slope = _ACTIVATIONS[name]
    return value(z), slope(z)


def differential_dense(
    preactivation: Float[Array, "*N out"],
    kernel: Float[Array, "in out"],
    jacobian: Float[Array, "*N in D"] | None,
    activation: str,
    beta: float,
) -> tuple[Float[Array, "*N out"], Float[Array, "*N out D"]]:
    """Return phi(z) and its derivative diag(phi'(z)) W dh/dx, given z = W h + b and dh/dx.

    Lutter et al. 2019. Without a Jacobian h is the network's input, dh/dx = I.

    Raises:
        ValueError: the Jacobian's shape does not fit the layer.
    """
    value, slope = _value_and_slope(activation, beta, preactivation)
    if jacobian is None:
        product = kernel.T
    else:
        leading = preactivation.shape[:-1]
        expected = (*leading, kernel.shape[0])
        if jacobian.ndim != len(leading) + 2 or jacobian.shape[:-1] != expected:
            raise ValueError(
                "DifferentialDense: the Jacobian of the layer's input must have shape "
                f"{(*expected, 'D')}, got {jacobian.shape}."
            )
        product = jnp.einsum("io,...id->...od", kernel, jacobian)
    return value, slope[..., None] * product
