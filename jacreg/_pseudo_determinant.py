"""Volume change of a map between spaces of different dimension."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ._choice import Choice, Quantity, from_products
from ._exact import jacobian_by_products
from ._lanczos_quadrature import lanczos_quadrature
from ._linearize import Linearization
from ._methods import Exact, Lanczos, Method
from ._one_by_one import one_by_one
from ._sharding import match_sharding
from ._structure import accumulate_dtype, rank_tolerance

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def log_pseudo_determinant(
    lin: Linearization,
    method: Method = Exact(),
    *,
    key: Array | None = None,
) -> Float[Array, " N"]:
    """Log pseudo-determinant of each example's Jacobian: the sum of log singular values.

    1/2 log det(J J^T) where J is wide or square, 1/2 log det(J^T J) where it is
    tall. From a QR factorisation of J itself, whose condition number is the square
    root of the Gram matrix's, so that float32 suffices for condition numbers to
    about 1e5. Where the dense Jacobian is too large, `Lanczos(...)` estimates it from
    products, by bidiagonalisation of J itself for the same reason.

    log |det(I + J)| of a map that is no contraction, for which `log_determinant` has no
    series, is this quantity of `lambda xs: xs + g(xs)`.

    Args:
        lin: from `linearize`.
        method: `Exact()` or `Lanczos(...)` (biased upwards by its order, see there).
        key: for the stochastic method.

    Returns:
        `[N]`; -inf where J is numerically rank-deficient (its smallest singular value
        is below (k + sqrt(l)) eps times the largest, k and l the lesser and the greater of n
        and M), with gradient zero there; never nan for a finite J. `Lanczos` sees a rank
        deficiency where its order exceeds the rank.

    Raises:
        ValueError: the stochastic method has no key.
        TypeError: the method does not give a determinant, or (DirectionError) the
            function lacks a direction and the method is `Lanczos`.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.array([[3.0, 4.0]]), jnp.ones((1, 1)))
        >>> jnp.exp(jacreg.log_pseudo_determinant(lin)).round()
        Array([5.], dtype=float32)
    """
    return DETERMINANT.decide(lin, method).run(key)


def _exact(lin: Linearization, method: Exact, limit: float) -> Choice:
    jacobian = jacobian_by_products(lin, method, limit)
    return replace(jacobian, run=lambda key: _by_factor(jacobian.run(key)))


def _by_factor(dense: Float[Array, "N M n"]) -> Float[Array, " N"]:
    dtype = dense.dtype
    dense = dense.astype(accumulate_dtype(dtype))
    tall = dense if dense.shape[1] >= dense.shape[2] else jnp.swapaxes(dense, 1, 2)
    if tall.shape[2] == 0:
        return jnp.zeros(tall.shape[0], dtype)
    singular_values = jnp.linalg.svd(jax.lax.stop_gradient(tall), compute_uv=False)
    threshold = rank_tolerance(tall.shape[1], tall.shape[2], tall.dtype)
    full_rank = singular_values[:, -1] > threshold * singular_values[:, 0]
    # A rank-deficient example takes a harmless matrix through QR, whose derivative
    # would be nan, and is replaced afterwards.
    identity = jnp.eye(tall.shape[1], tall.shape[2], dtype=tall.dtype)
    identity = match_sharding(jnp.broadcast_to(identity, tall.shape), tall)
    safe = jnp.where(full_rank[:, None, None], tall, identity)
    factor = one_by_one(jnp.linalg.qr)(safe)[1]
    # The entries of R span as many decades as the singular values: their logs add.
    logs = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor, axis1=1, axis2=2))), axis=1)
    finite = jnp.all(jnp.isfinite(tall), axis=(1, 2))
    # Log 1, log 0 and log -1: no infinity where there is none, for who has JAX look for them.
    known = jnp.where(full_rank, 1, jnp.where(finite, 0, -1)).astype(logs.dtype)
    return (logs + jnp.log(known)).astype(dtype)


def _lanczos_products(lin: Linearization, method: Lanczos) -> int:
    """Two a step of a probe, one for its scale and two for the gradient."""
    order = min(method.order, lin.outputs.size, lin.inputs.size)
    return method.num_probes * (2 * order + 3)


DETERMINANT = Quantity(
    "log_pseudo_determinant",
    {
        Exact: _exact,
        Lanczos: from_products(_lanczos_products, lanczos_quadrature, "J v and J^T u a step"),
    },
)
