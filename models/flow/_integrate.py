"""Likelihood and samples of a continuous normalising flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp

import jacreg

from ._solver import FlowSolver

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

Field = Callable[..., Any]

_DENSE_DIMENSIONS = 64


class FlowResult(NamedTuple):
    """What integrating a flow gives; see `log_density` and `sample`.

    Attributes:
      log_density: `[N]`, in nats, a sum over dimensions. None from `sample`.
      values: `[N, *in]`, the latents of `log_density`, or the samples.
      kinetic_energy: `[N]`, the integral of norm(f)^2; None unless asked for.
      frobenius_squared: `[N]`, the integral of norm(df/dx)_F^2, or its estimate; None unless
        asked for.
      num_evaluations: how often the solver called the field on the batch (NFE).
      converged: whether the solver reached the end within its steps, with finite values in
        every row. Where it is False the other values are those of the time at which it gave
        up, or not finite, and not to be used.
      remaining: the share of the time that was left when it gave up; 0 where it converged.
    """

    log_density: Float[Array, " N"] | None
    values: Float[Array, "N *in"]
    kinetic_energy: Float[Array, " N"] | None
    frobenius_squared: Float[Array, " N"] | None
    num_evaluations: Int[Array, ""]
    converged: Bool[Array, ""]
    remaining: Float[Array, ""]


def log_density(
    field: Field,
    xs: Float[Array, "N *in"],
    *,
    solver: FlowSolver = FlowSolver(),
    method: Any = jacreg.Auto(),
    regularize: bool = False,
    key: Array | None = None,
) -> FlowResult:
    """Log density of a batch under a continuous flow to a standard normal.

    log p(x) = log N(z(T); 0, I) + int_0^T tr(df/dx) dt, with dz/dt = f(z, t) and z(0) = x
    (Chen et al. 2018; Grathwohl et al. 2019, FFJORD).

    Arguments:
      field: `(xs [N, *in], ts [N]) -> [N, *in]`, such as `jacreg.eqx.function(model)` of a
        `flow` or `flow_conv` network.
      xs: the batch.
      solver: the solver and how finely it integrates.
      method: of the divergence: `jacreg.Auto()` or `jacreg.Exact()`, a `jacreg.Coloring` by
        `jacreg.color(field, xs, ts)` with ts of shape `[N]`, or `jacreg.Hutchinson()`.
        A stochastic method keeps its probes for the whole solve, as FFJORD does.
      regularize: integrate kinetic energy and Frobenius norm alongside (Finlay et al. 2020,
        RNODE; sums over dimensions, they divide by the number of these). With `Auto` or `Exact` it
        is exact, in the products of the divergence up to 64 dimensions and in as many again
        above; with `Hutchinson` one probe serves both it and the divergence at no further
        cost; with any other method it is estimated by one Rademacher probe, which needs a key.
      key: for stochastic methods.

    Returns: a `FlowResult`. A solver that gives up does not raise: look at `converged`.

    Raises: ValueError where the field changes the shape or a key is missing.
    """
    _check_field(field, xs)
    rates = _rates(field, xs, method, regularize, key)
    end = solver.end_time
    zeros = jnp.zeros(xs.shape[0], xs.dtype)
    state = (xs, *([zeros] * (3 if regularize else 1)))
    solution, values = _solve(rates, state, solver, 0.0, end)
    latents, trace, *regularizers = values
    energy, norm = regularizers if regularize else (None, None)
    axes = tuple(range(1, xs.ndim))
    dimensions = math.prod(xs.shape[1:])
    base = -0.5 * jnp.sum(latents**2, axes) - 0.5 * dimensions * jnp.log(2 * jnp.pi)
    return FlowResult(base + trace, latents, energy, norm, *_report(solution, values, solver, end))


def sample(
    field: Field,
    shape: Sequence[int],
    *,
    solver: FlowSolver = FlowSolver(),
    key: Array,
) -> FlowResult:
    """Samples of a flow: standard normal latents of `shape` (`[N, *in]`) integrated backwards.

    Arguments as `log_density`. Returns: a `FlowResult` without densities.
    """
    latents = jax.random.normal(key, tuple(shape))
    _check_field(field, latents)

    def rates(t, state):
        return (field(state[0], _times(t, state[0])),)

    solution, (values,) = _solve(rates, (latents,), solver, solver.end_time, 0.0)
    return FlowResult(None, values, None, None, *_report(solution, values, solver, 0.0))


def _rates(field: Field, xs, method, regularize: bool, key):
    """The time derivative of (position, trace, energy, norm), the last two if regularised."""
    probes, exact = None, isinstance(method, jacreg.Auto | jacreg.Exact)
    one_pass = regularize and isinstance(method, jacreg.Hutchinson)
    dimensions = math.prod(xs.shape[1:])
    if regularize and not exact:
        if key is None:
            raise ValueError("A stochastic method or regulariser needs a key, got None.")
        if one_pass and method != jacreg.Hutchinson():
            raise ValueError(
                "With regularize=True one Rademacher probe serves divergence and norm: use "
                f"jacreg.Hutchinson(), got {method}."
            )
        probes = jax.random.rademacher(key, xs.shape, xs.dtype)

    def rates(t, state):
        lin = jacreg.linearize(field, state[0], _times(t, state[0]))
        axes = tuple(range(1, lin.value.ndim))
        if regularize and exact and dimensions <= _DENSE_DIMENSIONS:
            # Divergence and norm from the same products, as long as the matrices are small.
            matrices = jacreg.jacobian(lin, method)
            matrices = matrices.reshape(-1, dimensions, dimensions)
            norm = jnp.sum(matrices**2, (1, 2))
            trace = jnp.trace(matrices, axis1=1, axis2=2)
            return lin.value, trace, jnp.sum(lin.value**2, axes), norm
        if one_pass and probes is not None:
            terms = jacreg.losses.flow_regularizers(lin, probes)
            return lin.value, terms.divergence, terms.kinetic_energy, terms.frobenius_squared
        trace = jacreg.divergence(lin, method, key=key)
        if not regularize:
            return lin.value, trace
        if probes is None:
            norm = jacreg.frobenius_squared(lin, method)
        else:
            norm = jnp.sum(lin.vjp(probes) ** 2, axes)
        return lin.value, trace, jnp.sum(lin.value**2, axes), norm

    return rates


def _solve(rates, state, solver: FlowSolver, start: float, end: float):
    solution = solver.integrate(rates, state, start, end)
    return solution, jax.tree.map(lambda values: values[-1], solution.ys)


def _times(t, xs) -> Float[Array, " N"]:
    return jnp.full(xs.shape[0], t, xs.dtype)


def _report(solution: Any, values: Any, solver: FlowSolver, end: float):
    steps = solution.stats["num_steps"]
    evaluations = solver.first_evaluations + solver.evaluations_per_step * steps
    # Fixed steps end at the end whatever came of them.
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(values)]
    converged = diffrax.is_successful(solution.result) & jnp.all(jnp.stack(finite))
    left = jnp.abs(end - solution.ts[-1]) / solver.end_time
    return evaluations, converged, jnp.where(converged, 0, left)


def _check_field(field: Field, xs) -> None:
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"A flow needs floating-point xs, got {xs.dtype}: cast first.")
    found = jax.eval_shape(field, xs, jax.ShapeDtypeStruct(xs.shape[:1], xs.dtype))
    if found.shape != xs.shape:
        raise ValueError(
            f"The field of a flow must keep the shape of its input: got {xs.shape} -> "
            f"{found.shape}. It is called as field(xs, ts) with ts of shape ({xs.shape[0]},)."
        )
