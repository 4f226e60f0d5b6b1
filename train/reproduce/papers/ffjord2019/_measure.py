"""The one-probe divergence: its mean over all probes, and its cost by dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import jacreg
import models
from jacreg import eqx as adapter
from jacreg.flow import FlowSolver, log_density
from train.reproduce import Asked
from train.reproduce.papers.ssm2019._measure import all_signs
from train.reproduce.timing import growth

if TYPE_CHECKING:
    from jaxtyping import Array

DIVERGENCES = ("plain", "exact", "automatic", "one-probe")


def one_probe(asked: Asked, *, dimensions: int, points: int = 32) -> Mapping[str, float]:
    """Compare log densities with one probe for the whole solve with the exact ones.

    The field is a network drawn at random, the solver rk4, the probes all 2^D vectors of signs,
    so that their mean has no chance in it.

    Returns:
        `bias`: the largest distance of a point's mean over probes from its exact log density,
        in nats; `deviation`: the root mean square of one probe's distance. `broken` leaves
        the divergence out.
    """
    field = random_field(dimensions, (16,), asked.seed)
    solver = FlowSolver("rk4", step_size=0.25)
    xs = jax.random.normal(jax.random.key(asked.seed), (points, dimensions))

    @jax.jit
    def solved(xs: Array, signs: Array) -> Any:
        exact = log_density(field, xs, solver=solver)

        def of(sign: Array) -> Array:
            probes = jnp.broadcast_to(sign, xs.shape)

            def rates(t: Array, state: Any) -> Any:
                lin = jacreg.linearize(field, state[0], jnp.full(points, t))
                slope = jnp.sum(probes * lin.vjp(probes), axis=1)
                return lin.value, 0 * slope if asked.broken else slope

            start = (xs, jnp.zeros(points))
            ends: Any = solver.integrate(rates, start, 0.0, solver.end_time).ys
            latents, traces = (values[-1] for values in ends)
            return jnp.sum(jax.scipy.stats.norm.logpdf(latents), axis=1) + traces

        return exact.log_density, jax.lax.map(of, signs)

    exact, estimates = solved(xs, jnp.asarray(all_signs(dimensions)))
    return {
        "bias": float(jnp.max(jnp.abs(estimates.mean(0) - exact))),
        "deviation": float(jnp.sqrt(jnp.mean((estimates - exact) ** 2))),
    }


def random_field(dimensions: int, hidden: Sequence[int], seed: int) -> Callable[[Any, Any], Any]:
    """Return the field of a `flow` network drawn at random, `(xs [N, D], ts [N]) -> [N, D]`."""
    network = models.build(
        "flow",
        framework="equinox",
        key=jax.random.key(seed),
        input_shape=(dimensions,),
        hidden=tuple(hidden),
    )
    return adapter.function(network)


def cost(
    asked: Asked,
    *,
    dimensions: Sequence[int],
    width: int = 64,
    batch: int = 32,
    repeats: int = 25,
    names: Sequence[str] = DIVERGENCES,
) -> Mapping[str, Any]:
    """Time a field and its divergence at draws from N(0, I_d); "plain" is the field alone.

    "exact" takes a product a dimension, as the paper does, "automatic" what jacreg chooses.

    Returns what `growth` returns.
    """
    methods = {
        "exact": jacreg.Exact(),
        "automatic": jacreg.Auto(),
        "one-probe": jacreg.Hutchinson(),
    }
    key = jax.random.key(asked.seed)

    def make(name: str, size: int) -> Callable[[], Any]:
        field = random_field(size, (width, width), asked.seed)
        xs, ts = jax.random.normal(key, (batch, size)), jnp.zeros(batch)

        def rates(xs: Array, ts: Array, key: Array) -> Any:
            if name == "plain":
                return field(xs, ts)
            lin = jacreg.linearize(field, xs, ts)
            return lin.value, jacreg.divergence(lin, methods[name], key=key)

        call = jax.jit(rates).lower(xs, ts, key).compile()
        return lambda: jax.block_until_ready(call(xs, ts, key))

    return growth(make, names, dimensions, repeats)
