"""What a regularised continuous flow integrates beside its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from .._linearize import Linearization
from .._structure import example_dot, example_squared_norm
from ._checks import check_linearization, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class FlowRegularizers(NamedTuple):
    """Result of `flow_regularizers`, each `[N]`.

    Attributes:
        divergence: e^T J e, unbiased for tr J.
        kinetic_energy: ||f||^2, exact.
        frobenius_squared: ||e^T J||^2, unbiased for ||J||_F^2.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 2 * xs, jnp.ones((1, 2)))
        >>> found = jacreg.losses.flow_regularizers(lin, jnp.array([[1.0, -1.0]]))
        >>> [float(each[0]) for each in found]
        [4.0, 8.0, 8.0]
    """

    divergence: Float[Array, " N"]
    kinetic_energy: Float[Array, " N"]
    frobenius_squared: Float[Array, " N"]


def flow_regularizers(lin: Linearization, probes: Float[Array, "N *in"]) -> FlowRegularizers:
    """Divergence, kinetic energy and squared Frobenius norm of a vector field, from one VJP.

    For the augmented state of a continuous normalising flow: integrate all three and
    subtract the first from the log density. The probes are passed in, since they must be
    the same during the whole solve (Grathwohl et al. 2019).

    Source: Finlay et al. 2020 (How to train your neural ODE, RNODE). Their objective,
    likelihood and both terms alike, is averaged over the dimensions d: our weights
    are theirs (0.01 on MNIST) beside a likelihood that is a sum over dimensions, and
    theirs over d beside one that is divided by d. There is no factor 1/2 in the kinetic
    energy. FFJORD's own Frobenius option is a root mean square, not a square.

    Args:
        lin: from `linearize`, of the field f(t, .): `[N, *in] -> [N, *in]`.
        probes: `[N, *in]`, one an example with E[e e^T] = I: Rademacher or Gaussian.

    Returns:
        `FlowRegularizers(divergence, kinetic_energy, frobenius_squared)`, each `[N]`, sums
        over dimensions.

    Raises:
        ValueError: the field does not have the shape of its input, or the probes do not.
        TypeError: (DirectionError) the function has no reverse mode.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 2 * xs, jnp.ones((1, 3)))
        >>> probes = jax.random.rademacher(jax.random.key(0), (1, 3), float)
        >>> jacreg.losses.flow_regularizers(lin, probes).divergence
        Array([6.], dtype=float32)
    """
    who = "flow_regularizers"
    check_linearization(who, lin)
    check_same_shape(who, "the vector field", lin.value, lin.xs, "xs")
    check_same_shape(who, "probes", probes, lin.xs, "xs")
    probes = jax.tree.map(lambda e, y: jnp.asarray(e, y.dtype), probes, lin.value)
    product = lin.vjp(probes)
    return FlowRegularizers(
        divergence=example_dot(product, probes),
        kinetic_energy=example_squared_norm(lin.value),
        frobenius_squared=example_squared_norm(product),
    )
