"""The Jacobian penalty that keeps equilibrium models solvable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._frobenius import frobenius_squared
from .._linearize import linearize
from .._methods import Projection
from ._checks import check_batch, check_function, check_key, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def equilibrium_jacobian_penalty(
    cell: Callable[..., Any],
    state: Float[Array, "N *in"],
    *args: PyTree,
    key: Array | None,
    num_probes: int = 1,
) -> Float[Array, " N"]:
    """Squared norm of the cell's Jacobian at the equilibrium, ||e^T J||^2 / d, Gaussian e.

    Unbiased for ||J||_F^2 / d with d the entries of one state. The state is detached: the
    gradient reaches the parameters through the cell alone, never through the solver.

    Source: Bai, Koltun and Kolter 2021 (arXiv:2106.14342), equation for L with M probes:
    our weight is their gamma on the steps that apply it. They apply it with
    probability p and do not reweight; in the mean over steps their weight is p * gamma (see
    `bernoulli`).

    Args:
        cell: `(z [N, *in], *args) -> [N, *in]`, closing over parameters.
        state: `[N, *in]`, the equilibrium z* of each example, a pytree of such, as
            `jacreg.equilibrium.solve` finds it.
        *args: further inputs of the cell, which share the batch axis.
        key: a new one every step.
        num_probes: their M; one is enough in the paper.

    Returns:
        `[N]`, divided by d, the one loss here that is (so that weights compare).

    Raises:
        ValueError: the cell does not keep the state's shape, `num_probes` is not
            positive, or the key is missing.
        TypeError: the state is not floating point, or the cell has no reverse mode.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.equilibrium_jacobian_penalty(
        ...     lambda z: jnp.tanh(0.5 * z + 1.0), jnp.zeros((2, 3)), key=jax.random.key(0)
        ... ).shape
        (2,)
    """
    who = "equilibrium_jacobian_penalty"
    check_function(who, "cell", cell)
    state, _ = check_batch(who, state, "state")
    method = Projection(num_probes, distribution="gaussian")
    lin = linearize(cell, jax.lax.stop_gradient(state), *args, mode="reverse")
    check_same_shape(who, "what the cell returns", lin.value, lin.xs, "the state")
    return frobenius_squared(lin, method, key=check_key(who, key)) / lin.inputs.size
