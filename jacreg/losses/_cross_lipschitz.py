"""The regulariser of differences of class gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from .._frobenius import NORM, frobenius_squared
from .._linearize import Linearization, linearize
from .._methods import Auto, Method
from ._checks import check_linearization, check_method_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def cross_lipschitz_penalty(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Mean over pairs of classes of ||grad f_l - grad f_m||^2, all K^2 pairs counted.

    It is 2 / K times the squared Frobenius norm of the Jacobian of the logits less their
    mean over the classes, which is what the method is asked for: with `Projection()` the
    value is unbiased and never negative. What is added to all logits alike costs nothing.
    Centring evaluates the function again; under jit the compiler may share the two passes.

    Source: Hein and Andriushchenko 2017 (Formal Guarantees on the Robustness of a Classifier
    against Adversarial Manipulation), Cross-Lipschitz regularisation, factor 1.

    Args:
        lin: from `linearize`, of the logits, `[N, K]`.
        method: as for `frobenius_squared`; exact by default (`Auto()`).
        key: for the stochastic methods.

    Returns:
        `[N]`, a mean over pairs of classes, sums over inputs.

    Raises:
        ValueError: the logits are not `[N, K]`, or a stochastic method has no key.
        TypeError: the method does not give a Frobenius norm.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs, jnp.zeros((3, 2)))
        >>> jacreg.losses.cross_lipschitz_penalty(lin)
        Array([1., 1., 1.], dtype=float32)
    """
    who = "cross_lipschitz_penalty"
    check_linearization(who, lin)
    check_method_key(who, NORM, method, key)
    shape = getattr(lin.value, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] == 0:
        raise ValueError(
            f"{who}: lin must be of logits [N, K], got {lin.outputs.describe()}; return the logits "
            "alone, one row an example."
        )

    def centred(xs: PyTree) -> Float[Array, "N K"]:
        logits = lin.evaluate(xs)
        return logits - jnp.mean(logits, axis=1, keepdims=True)

    centred_lin = linearize(centred, lin.xs, mode=lin.mode)
    return frobenius_squared(centred_lin, method, key=key) * (2 / shape[1])
