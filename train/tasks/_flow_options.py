"""Solvers and divergences of a flow, by the names that a config uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp

import jacreg
from train.errors import ConfigError
from train.expect import integer, number
from train.methods import METHODS, Resolver, make_method
from train.named import Named
from train.networks import check_field

if TYPE_CHECKING:
    from jacreg.flow import FlowSolver

Tolerance = Annotated[float, number(above=0, most=1)]


def dopri5(
    *,
    rtol: Tolerance = 1e-5,
    atol: Tolerance = 1e-5,
    max_steps: Annotated[int, integer(least=1, most=100_000)] = 1000,
) -> FlowSolver:
    """Dormand and Prince's adaptive steps, one size for the batch; gives up after `max_steps`."""
    from jacreg.flow import FlowSolver

    return FlowSolver("dopri5", rtol=rtol, atol=atol, max_steps=max_steps)


def rk4(*, step_size: Annotated[float, number(above=0)] = 0.25) -> FlowSolver:
    """The classical Runge-Kutta method with steps of `step_size`."""
    from jacreg.flow import FlowSolver

    return FlowSolver("rk4", step_size=step_size)


SOLVERS: Mapping[str, Callable[..., FlowSolver]] = {"dopri5": dopri5, "rk4": rk4}
DIVERGENCES = {name: METHODS[name] for name in ("auto", "coloring", "exact", "hutchinson")}
ACCURATE = Named("dopri5", {"rtol": 1e-5, "atol": 1e-5, "max_steps": 1000})


def make_solver(named: Named, end_time: float) -> FlowSolver:
    """Return the solver that a config names, up to `end_time`."""
    return replace(SOLVERS[named.name](**named.options), end_time=end_time)


def make_divergence(named: Named, field: Callable[..., Any], sample: Any) -> Any:
    """Return the method of the divergence of a field `(xs, ts) -> [N, *in]`.

    Where nothing is local it is exact in another way.
    """

    def rows(count: int) -> tuple[Any, Any]:
        return sample[:count], jnp.zeros(len(sample[:count]), sample.dtype)

    method = Resolver(field, rows)(make_method(named), "divergence")
    if isinstance(method, jacreg.Coloring) and method.is_dense:
        return jacreg.Auto()
    return method


def describe(method: Any, field: Callable[..., Any], sample: Any) -> str:
    """Return how the divergence of a field is taken in one line, for the summary."""
    plans = []

    def read(xs: Any, ts: Any) -> Any:
        lin = jacreg.linearize(field, xs, ts)
        plans.append(jacreg.plan(jacreg.divergence, lin, method))
        return xs

    jax.eval_shape(read, sample, jnp.zeros(len(sample), sample.dtype))
    name = "Coloring" if isinstance(method, jacreg.Coloring) else repr(method)
    return f"{name}: {plans[0].path}, {plans[0].num_products} products"


def check_one_probe(method: Any) -> None:
    """Raise unless a stochastic divergence can share its probe with the penalties.

    Raises:
        ConfigError: it has several probes, or others than signs.
    """
    if isinstance(method, jacreg.Hutchinson) and method != jacreg.Hutchinson():
        raise ConfigError(
            f"task.method: got {method}, but penalties of the flow take their norm from the "
            'same probe: expected one Rademacher probe, "hutchinson" without options.'
        )


def check_vector_field(name: str, field: Callable[..., Any], sample: Any) -> None:
    """Raise unless the network is a vector field on the data: `(xs, ts) -> [N, *in]`.

    Raises:
        ConfigError: it takes something else, or returns another shape.
    """
    check_field(
        name,
        lambda xs: field(xs, jnp.zeros(len(xs), xs.dtype)),
        sample,
        "vector field f(x, t)",
        '; expected one such as "flow" for vectors or "flow_conv" for images.',
        "the field of a flow must keep the shape, or its Jacobian is not square and has no trace.",
    )
