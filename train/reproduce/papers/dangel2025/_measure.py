"""Laplacian and biharmonic of a tanh network in three ways: value, time and memory a datum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet

import jacreg
from train.reproduce import Asked, dense
from train.reproduce.timing import core_seconds

if TYPE_CHECKING:
    from jaxtyping import Array, Float

HIDDEN = (768, 768, 512, 512, 1)
_ROUNDS = 7
# On a CPU XLA hands runs of operations to a library and plans none of the arrays in between.
_NO_LIBRARY = {"xla_cpu_experimental_ynn_fusion_type": ""}

Ways = Mapping[str, Callable[[Any], Any]]


def laplacians(
    asked: Asked,
    *,
    inputs: int,
    batches: Sequence[int],
    weighted: bool,
    hidden: Sequence[int] = HIDDEN,
) -> Mapping[str, Any]:
    """Take the Laplacian as nested derivatives, by standard and by collapsed Taylor mode.

    Args:
        inputs: D, the entries of an input.
        batches: sizes of the batch; the cost of a datum is the slope over them.
        weighted: whether each second derivative has a weight of its own.

    Returns:
        `nested_ms`, `standard_ms`, `collapsed_ms` of the cores a datum, and `error`, the largest
        difference from the nested derivatives relative to their root mean square.
    """
    ways = _laplacian_ways(asked.seed, (inputs, *hidden), weighted)
    return _costs(ways, _points(asked.seed, max(batches), inputs), batches)


def biharmonics(
    asked: Asked,
    *,
    inputs: int,
    batches: Sequence[int],
    hidden: Sequence[int] = HIDDEN,
) -> Mapping[str, Any]:
    """Take the Laplacian of the Laplacian, both nested or both collapsed; as `laplacians`."""
    ways = _biharmonic_ways(asked.seed, (inputs, *hidden))
    return _costs(ways, _points(asked.seed, max(batches), inputs), batches)


def memory(
    asked: Asked,
    *,
    operator: str,
    inputs: int,
    batches: Sequence[int],
    hidden: Sequence[int] = HIDDEN,
) -> Mapping[str, Any]:
    """Return `..._mib` a datum of the ways of an operator: "laplacian", "weighted", "biharmonic".

    What XLA plans for temporary arrays, the slope over the batches: no chance is in it.
    """
    widths = (inputs, *hidden)
    if operator == "biharmonic":
        ways = _biharmonic_ways(asked.seed, widths)
    else:
        ways = _laplacian_ways(asked.seed, widths, operator == "weighted")
    found = {}
    for name, way in ways.items():
        bytes_ = [_planned_bytes(way, jnp.ones((batch, inputs))) for batch in batches]
        found[f"{name}_mib"] = float(np.polyfit(batches, bytes_, 1)[0]) / 2**20
    return found


def _laplacian_ways(seed: int, widths: Sequence[int], weighted: bool) -> Ways:
    first, second = jax.random.split(jax.random.key(seed))
    energy = _network(first, widths)
    weights = jax.random.uniform(second, widths[:1], minval=0.5, maxval=1.5)
    weights = weights if weighted else jnp.ones(widths[0])
    return {
        "nested": jax.vmap(_nested(energy, weights)),
        "standard": jax.vmap(_standard(energy, weights)),
        "collapsed": _collapsed(energy, weights if weighted else None),
    }


def _biharmonic_ways(seed: int, widths: Sequence[int]) -> Ways:
    energy = _network(jax.random.split(jax.random.key(seed))[0], widths)
    ones = jnp.ones(widths[0])
    return {
        "nested": jax.vmap(_nested(_nested(energy, ones), ones)),
        "collapsed": _collapsed(_collapsed(energy, None), None),
    }


def _points(seed: int, count: int, inputs: int) -> Float[Array, "N D"]:
    return jax.random.normal(jax.random.split(jax.random.key(seed))[1], (count, inputs))


def _network(key: Array, widths: Sequence[int]) -> Callable[[Float[Array, "*N D"]], Any]:
    """Return a tanh network with one output, of an input or of a batch of them."""
    layers = dense.initial(key, widths)

    def energy(xs: Any) -> Any:
        return dense.outputs(layers, xs, "tanh")[..., 0]

    return energy


def _nested(energy: Callable[[Any], Any], weights: Any) -> Callable[[Any], Any]:
    """Return the weighted sum of v^T H v over the axes, each the derivative of a gradient."""

    def laplacian(x: Any) -> Any:
        def second(v: Any) -> Any:
            return jax.jvp(jax.grad(energy), (x,), (v,))[1] @ v

        return weights @ jax.vmap(second)(jnp.eye(x.size, dtype=x.dtype))

    return laplacian


def _standard(energy: Callable[[Any], Any], weights: Any) -> Callable[[Any], Any]:
    """Return it from one Taylor series of second order along each axis."""

    def laplacian(x: Any) -> Any:
        def second(v: Any) -> Any:
            return jet(energy, (x,), ((v, jnp.zeros_like(v)),))[1][1]

        return weights @ jax.vmap(second)(jnp.eye(x.size, dtype=x.dtype))

    return laplacian


def _collapsed(energy: Callable[[Any], Any], weights: Any) -> Callable[[Any], Any]:
    """Return it from one series whose second coefficients are summed as they arise: jacreg's."""

    def laplacian(xs: Any) -> Any:
        return jacreg.laplacian(jacreg.linearize(energy, xs), weights=weights)

    return laplacian


def _planned_bytes(way: Callable[[Any], Any], xs: Any) -> int:
    """Return the bytes of temporary arrays, with every one of them planned by XLA itself."""
    lowered = jax.jit(way).lower(xs)
    try:
        compiled = lowered.compile(compiler_options=dict(_NO_LIBRARY))
    except jax.errors.JaxRuntimeError:  # of a release without the library and its option
        compiled = lowered.compile()
    found: Any = compiled.memory_analysis()
    return found.temp_size_in_bytes


def _costs(ways: Ways, xs: Any, batches: Sequence[int]) -> dict[str, float]:
    """Return core milliseconds a datum, the slope over the batches, and the largest error."""
    compiled = {
        (name, batch): jax.jit(way).lower(xs[:batch]).compile()
        for name, way in ways.items()
        for batch in batches
    }
    expected = np.asarray(compiled["nested", max(batches)](xs))
    scale = float(np.sqrt(np.mean(expected**2)))
    error = max(
        float(np.abs(np.asarray(compiled[name, max(batches)](xs)) - expected).max()) / scale
        for name in ways
    )
    # In turns, so that a slow moment of the machine falls on every way; the least of the rounds,
    # because whatever disturbs a reading adds to it.
    readings = [
        {
            of: core_seconds(lambda of=of: jax.block_until_ready(compiled[of](xs[: of[1]])))
            for of in compiled
        }
        for _ in range(_ROUNDS)
    ]
    found = {"error": error}
    for name in ways:
        least = [1e3 * min(reading[name, batch] for reading in readings) for batch in batches]
        found[f"{name}_ms"] = float(np.polyfit(batches, least, 1)[0])
    return found
