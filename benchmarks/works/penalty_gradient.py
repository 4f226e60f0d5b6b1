"""The gradient of a Jacobian penalty by the weights of an ordinary convolutional network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, counted, timed
from benchmarks.works._dense_nets import Net, convolutional, temporary_mib

_BATCH = 32
_TOLERANCE = 1e-4
_KEY = jax.random.key(3)
_ROWS = "all rows"


def compare() -> list[Comparison]:
    """Time the gradient, and its memory, against `jax.vjp` and `jax.lax.map` by hand."""
    net = convolutional(_BATCH)
    rows: list[Comparison] = []
    for probes in (8, _ROWS):  # training_step has one projection
        words = probes if probes == _ROWS else f"{probes} projections"
        same = {"setting": f"{net.setting}, {words}", "most": 1.0}
        forms = {"ours": _ours, "jax.vjp and lax.map": _by_hand}
        if probes == _ROWS:
            forms["vmap(jacrev)"] = _jacrev
        compiled = {name: _compiled(form(net, probes), net) for name, form in forms.items()}
        calls = {name: _call(each, net) for name, each in compiled.items()}
        times = in_turns(calls, rounds=5)
        for name in list(forms)[1:]:
            agreement = assert_equal(_flat(calls["ours"]()), _flat(calls[name]()), _TOLERANCE)
            same |= {"peer": name, "agreement": agreement}
            rows.append(timed(times, "ours", name, work="gradient of the penalty", **same))
            mib = [temporary_mib(compiled[each]) for each in ("ours", name)]
            rows.append(counted(*mib, "MiB", work="its temporary memory", **same))
    return rows


def growth() -> list[dict[str, Any]]:
    """Time and memory of the gradient against the projections."""
    net = convolutional(_BATCH)
    time: dict[str, list[list[float]]] = {"ours": [], "jax.vjp and lax.map": []}
    memory: dict[str, list[list[float]]] = {"ours": [], "jax.vjp and lax.map": []}
    for probes in (1, 2, 4, 8, 16):
        for name, form in (("ours", _ours), ("jax.vjp and lax.map", _by_hand)):
            compiled = _compiled(form(net, probes), net)
            seconds = in_turns({name: _call(compiled, net)}, rounds=5).median(name)
            time[name].append([probes, 1000 * seconds])
            memory[name].append([probes, temporary_mib(compiled)])
    title = "gradient of the penalty"
    return [
        {"title": title, "x": "projections", "y": "ms", "lines": time},
        {"title": "its memory", "x": "projections", "y": "temporary MiB", "lines": memory},
    ]


Penalty = Callable[[Any], Any]


def _ours(net: Net, probes: int | str) -> Penalty:
    method: Any = jacreg.Exact() if probes == _ROWS else jacreg.Projection(int(probes))

    def penalty(params: Any) -> Any:
        lin = jacreg.linearize(lambda xs: net.apply(params, xs), net.xs)
        key = None if probes == _ROWS else _KEY
        return jnp.mean(jacreg.frobenius_squared(lin, method, key=key))

    return penalty


def _by_hand(net: Net, probes: int | str) -> Penalty:
    """The same sum of squares of J^T u, as one would write it in JAX."""

    def penalty(params: Any) -> Any:
        value, pull = jax.vjp(lambda xs: net.apply(params, xs), net.xs)
        examples, outputs = value.shape

        def squared(cotangent: Any) -> Any:
            return jnp.sum(pull(cotangent)[0] ** 2) / examples

        if probes == _ROWS:
            basis = jnp.eye(outputs)[:, None].repeat(examples, axis=1)
            return jnp.sum(jax.lax.map(squared, basis))
        keys = [_KEY] if probes == 1 else list(jax.random.split(_KEY, int(probes)))
        draws = jnp.stack([jax.random.normal(key, value.shape) for key in keys])
        length = jnp.linalg.norm(draws, axis=2, keepdims=True)
        return jnp.mean(jax.lax.map(squared, draws / length * outputs**0.5))

    return penalty


def _jacrev(net: Net, _: int | str) -> Penalty:
    def penalty(params: Any) -> Any:
        dense = jax.vmap(jax.jacrev(lambda x: net.apply(params, x[None])[0]))(net.xs)
        return jnp.sum(dense**2) / len(net.xs)

    return penalty


def _flat(gradient: Any) -> Any:
    return jax.flatten_util.ravel_pytree(gradient)[0]


def _compiled(penalty: Penalty, net: Net) -> Any:
    return jax.jit(jax.grad(penalty)).lower(net.params).compile()


def _call(compiled: Any, net: Net) -> Callable[[], Any]:
    return lambda: compiled(net.params)
