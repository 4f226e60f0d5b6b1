"""Likelihood and samples of a continuous normalising flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import diffrax
import jax
import jax.numpy as jnp

from .._checks import check_solver
from .._convolution import as_products
from .._methods import Auto, Method
from .._structure import accumulate_dtype
from ._field import Field, Rate, check_field
from ._rates import Path, make_rates
from ._result import FlowResult
from ._solver import FlowSolver

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

    Base = Callable[[Float[Array, "N *in"]], Float[Array, " N"]]


def log_density(
    field: Field,
    xs: Float[Array, "N *in"],
    *args: PyTree,
    solver: FlowSolver = FlowSolver(),
    method: Method = Auto(),
    base: Base | None = None,
    regularize: bool = False,
    key: Array | None = None,
) -> FlowResult:
    """Log density of a batch under a continuous flow to a base density.

    log p(x) = log base(z(T)) + int_0^T tr(df/dx) dt, with dz/dt = f(z, t) and z(0) = x
    (Chen et al. 2018; Grathwohl et al. 2019, FFJORD). The program of field and divergence is
    traced and planned once a solve; one step size serves the batch. On several devices: under `jit`
    with an automatic mesh, or `jax.shard_map(..., check_vma=False)`, as diffrax's loops need it.

    Args:
        field: `(xs [N, *in], ts [N], *args) -> [N, *in]`, such as `jacreg.eqx.function(model)`
            (`jacreg.nnx`, `jacreg.linen`), or `(t, y, args)` as diffrax has them, with a scalar t
            and the batch y: known by its first parameter `t` or its third `args`, or marked by
            `time_first`.
        xs: the batch: vectors, images, anything floating point.
        *args: conditions of the field, which share the batch axis (or are scalars).
        solver: the solver, how finely it integrates, and how derivatives are taken.
        method: of the divergence, as in `jacreg.divergence`: `jacreg.Auto()` (exact),
            `jacreg.Exact()`, a `jacreg.Coloring`, or a stochastic one, `jacreg.Hutchinson()`, which
            keeps its probes for the whole solve, as FFJORD does.
        base: the log density of the latents, `[N, *in] -> [N]`; None for a standard normal.
        regularize: integrate kinetic energy and Frobenius norm alongside (Finlay et al. 2020,
            RNODE; sums over dimensions, they divide by the number of these). With `Auto` and
            `Exact` the norm is exact; with `Hutchinson` one probe serves both it and the
            divergence at no further cost; with any other method it is estimated by one Rademacher
            probe, which needs a key.
        key: for stochastic methods.

    Returns:
        A `FlowResult`. A solver that gives up does not raise: look at `converged`.

    Raises:
        ValueError: the field changes the shape, the base gives no number an example, or a key is
            missing.
        TypeError: the field's parameters do not fit what it is called with.

    Example:
        >>> import jax.numpy as jnp, jacreg.flow
        >>> found = jacreg.flow.log_density(lambda xs, ts: -0.5 * xs, jnp.ones((2, 3)))
        >>> found.log_density.round(3), bool(found.converged)
        (Array([-4.809, -4.809], dtype=float32), True)
    """
    xs = jnp.asarray(xs)
    check_solver(solver, FlowSolver, 'FlowSolver("rk4")')
    check_field(field, xs, args)
    path = Path()
    rates = make_rates(Rate(field, args), xs, method, regularize, key, path)
    start = xs.astype(accumulate_dtype(xs.dtype))
    zeros = jnp.zeros(start.shape[:1], start.dtype)
    state = (start, *([zeros] * (3 if regularize else 1)))
    solution, values = _solve(rates, state, solver, 0.0, solver.end_time)
    latents, trace, *regularizers = values
    energy, norm = regularizers if regularize else (None, None)
    return FlowResult(
        _base(base, latents) + trace,
        latents,
        energy,
        norm,
        *_report(solution, values, solver, solver.end_time),
        plan=path.plan,
    )


def sample(
    field: Field,
    shape: Sequence[int],
    *args: PyTree,
    solver: FlowSolver = FlowSolver(),
    base: Callable[[Any, tuple[int, ...]], Float[Array, "N *in"]] | None = None,
    key: Array,
) -> FlowResult:
    """Samples of a flow: latents of `shape` (`[N, *in]`) integrated backwards.

    Args:
        field, solver: as in `log_density`.
        shape: of the samples, the number of them first.
        *args: conditions, one a sample.
        base: draws the latents, `(key, shape) -> [N, *in]`, such as `jax.random.logistic`; None
            for a standard normal.
        key: of the latents.

    Returns:
        A `FlowResult` without densities.

    Raises:
        TypeError: `shape` is no sequence.
        ValueError: the base draws another shape, or the field does not keep it.

    Example:
        >>> import jax, jacreg.flow
        >>> key = jax.random.key(0)
        >>> found = jacreg.flow.sample(lambda xs, ts: 0 * xs - 20, (2, 3), key=key)
        >>> bool((abs(found.values - 20) < 5).all())
        True
    """
    check_solver(solver, FlowSolver, 'FlowSolver("rk4")')
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(
            f"flow.sample: shape must be that of the samples, such as (16, 2), got {shape!r}."
        )
    latents = (base or jax.random.normal)(key, tuple(shape))
    if latents.shape != tuple(shape):
        raise ValueError(f"base must draw latents of shape {tuple(shape)}, got {latents.shape}.")
    check_field(field, latents, args)
    rate, dtype = as_products(Rate(field, args)), accumulate_dtype(latents.dtype)

    def rates(t: Any, state: Any) -> Any:
        return (rate(state[0], t).astype(dtype),)

    state = (latents.astype(dtype),)
    solution, (values,) = _solve(rates, state, solver, solver.end_time, 0.0)
    return FlowResult(None, values, None, None, *_report(solution, values, solver, 0.0))


def _base(base: Base | None, latents: Float[Array, "N *in"]) -> Float[Array, " N"]:
    if base is None:
        dimensions = math.prod(latents.shape[1:])
        axes = tuple(range(1, latents.ndim))
        return -0.5 * jnp.sum(latents**2, axes) - 0.5 * dimensions * math.log(2 * math.pi)
    found = base(latents)
    if jnp.shape(found) != latents.shape[:1]:
        raise ValueError(
            f"base must give one log density an example, shape {latents.shape[:1]}, got "
            f"{jnp.shape(found)}: sum over the other axes."
        )
    return found


def _solve(rates: Any, state: Any, solver: FlowSolver, start: float, end: float) -> Any:
    solution = solver.integrate(rates, state, start, end)
    return solution, jax.tree.map(lambda values: values[-1], solution.ys)


def _report(solution: Any, values: Any, solver: FlowSolver, end: float) -> Any:
    steps = solution.stats["num_steps"]
    evaluations = solver.first_evaluations + solver.evaluations_per_step * steps
    # Fixed steps end at the end whatever came of them.
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(values)]
    converged = diffrax.is_successful(solution.result) & jnp.all(jnp.stack(finite))
    left = jnp.abs(end - solution.ts[-1]) / solver.end_time
    return evaluations, steps, converged, jnp.where(converged, 0, left)
