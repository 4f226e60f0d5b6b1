"""The time derivative of position, log density and regularisers along a flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._convolution import as_products
from .._frobenius import frobenius_squared
from .._jacobian import jacobian
from .._linearize import Linearization, linearize
from .._methods import Auto, Exact, Hutchinson, Method
from .._plan import Plan, plan
from .._structure import accumulate_dtype
from .._trace import divergence
from ..losses import flow_regularizers
from ._field import Rate

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Up to so many a regularised flow takes its exact divergence from the matrices of its norm.
_DENSE_DIMENSIONS = 64


class Path:
    """How the divergence was taken; filled as the rates are traced."""

    plan: Plan | None = None


def make_rates(
    rate: Rate,
    xs: Float[Array, "N *in"],
    method: Method,
    regularize: bool,
    key: Array | None,
    path: Path,
) -> Callable[[Any, Any], tuple[Any, ...]]:
    """Return the derivative of (position, trace, energy, norm), the last two if regularised.

    Raises:
        ValueError: a key is missing, or the method has more than one probe beside a regulariser.
    """
    exact = isinstance(method, Auto | Exact)
    dense = regularize and exact and math.prod(xs.shape[1:]) <= _DENSE_DIMENSIONS
    one_pass = regularize and isinstance(method, Hutchinson)
    probes = None
    if regularize and not exact:
        if key is None:
            raise ValueError("A stochastic method or regulariser needs a key, got None.")
        if one_pass and method != Hutchinson():
            raise ValueError(
                "With regularize=True one Rademacher probe serves divergence and norm: use "
                f"jacreg.Hutchinson(), got {method}."
            )
        probes = jax.random.rademacher(key, xs.shape, accumulate_dtype(xs.dtype))

    def terms(lin: Linearization) -> tuple[Any, ...]:
        axes = tuple(range(1, lin.value.ndim))
        if dense:
            # Divergence and norm from the same products, as long as the matrices are small.
            path.plan = plan(jacobian, lin, method)
            matrices = jacobian(lin, method)
            size = math.prod(lin.value.shape[1:])
            matrices = matrices.reshape(-1, size, size)
            norm = jnp.sum(matrices**2, (1, 2))
            return jnp.trace(matrices, axis1=1, axis2=2), jnp.sum(lin.value**2, axes), norm
        path.plan = plan(divergence, lin, method)
        if one_pass and probes is not None:
            return tuple(flow_regularizers(lin, probes))
        trace = divergence(lin, method, key=key)
        if not regularize:
            return (trace,)
        norm = (
            frobenius_squared(lin, method)
            if probes is None
            else jnp.sum(lin.vjp(probes) ** 2, axes)
        )
        return trace, jnp.sum(lin.value**2, axes), norm

    def rates(t: Any, state: Any) -> tuple[Any, ...]:
        lin = linearize(rate.fn, state[0], *rate.arguments(state[0], t))
        found = (lin.value, *terms(lin))
        return tuple(each.astype(state[0].dtype) for each in found)

    return as_products(rates)  # a solver calls it in a loop
