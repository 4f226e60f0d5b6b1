"""Exact Laplacian of energies, convolutional and dense.

folx is the forward Laplacian, jitted, over the batch by vmap, at both ends of its sparsity option;
its faster setting counts. `hessian and trace` is jax.hessian over the batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jacreg
from benchmarks import _clock, _comparison
from benchmarks._comparison import Comparison, assert_equal, timed
from benchmarks.methods import _convolutions, _kernel

_WORK = "exact Laplacian"
_ACTIVATIONS = {"tanh": jnp.tanh, "softplus": jax.nn.softplus}
# 0, the default, is dense throughout; with 0.6 a layer whose rows are sparser stays sparse.
_THRESHOLDS = (0, 0.6)


def compare() -> list[Comparison]:
    """The convolutional energy, then dense ones."""
    local = _convolutions(2)
    rows = _compare(
        lambda xs: (local(xs) ** 2).sum((1, 2, 3)),
        jax.random.normal(jax.random.key(0), (1, 32, 32, 3)),
        "squares of 2 convolutions 3x3, 32x32x3, batch 1",
        most=0.033,
        rounds=5,
        floor="one product of a 3x3 kernel and two 3x3 x 3 cones a pixel, no product an entry",
    )
    for inputs, hidden in ((32, 128), (64, 256)):
        for name, activation in _ACTIVATIONS.items():
            for batch in (16, 256):
                rows += _compare(
                    _mlp_energy(inputs, hidden, activation),
                    jax.random.normal(jax.random.key(0), (batch, inputs)),
                    f"MLP {inputs}-{hidden}-{hidden}-1, {name}, batch {batch}",
                    most=1.0,
                    rounds=9,
                    floor=f"{inputs * hidden * hidden / 1e6:.2g} million multiplications an "
                    "example, as the forward Laplacian: one product of the input's rows with W_2",
                )
    return rows


def _compare(
    energy: Callable[[Any], Any], xs: Any, setting: str, *, most: float, rounds: int, floor: str
) -> list[Comparison]:
    folx, version = _comparison.peer("folx")
    logging.getLogger("folx").setLevel(logging.ERROR)
    calls: dict[str, Any] = {"ours": jax.jit(_ours(energy, xs))}
    for threshold in _THRESHOLDS:
        calls[f"folx {threshold}"] = jax.jit(_folx(folx, energy, threshold))
    small = xs.ndim == 2
    if small:
        calls["hessian"] = jax.jit(jax.vmap(_hessian(energy)))
    found = calls["ours"](xs)
    agreement = {name: assert_equal(found, call(xs), 1e-4) for name, call in calls.items()}
    times = _clock.in_turns(
        {name: (lambda call=call: call(xs)) for name, call in calls.items()}, rounds=rounds
    )
    best = min((name for name in calls if name.startswith("folx")), key=times.median)
    peers: list[tuple[str, str, float | None]] = [
        (best, f"{version}, sparsity_threshold={best.split()[1]}", most)
    ]
    if small:
        peers.append(("hessian", "jax.hessian and trace", None))
    return [
        timed(times, "ours", name, work=_WORK, setting=setting, peer=peer, most=limit,
              floor=floor, agreement=agreement[name])
        for name, peer, limit in peers
    ]  # fmt: skip


def growth() -> list[dict[str, Any]]:
    """Milliseconds against the dimension of an MLP's input."""
    folx, _ = _comparison.peer("folx")
    lines: dict[str, list[list[float]]] = {"jacreg": [], "folx": [], "hessian and trace": []}
    for inputs in (8, 16, 32, 64, 128):
        energy = _mlp_energy(inputs, 128, jnp.tanh)
        xs = jax.random.normal(jax.random.key(0), (32, inputs))
        calls = {
            "jacreg": jax.jit(_ours(energy, xs)),
            "folx": jax.jit(_folx(folx, energy, 0)),
            "hessian and trace": jax.jit(jax.vmap(_hessian(energy))),
        }
        times = _clock.in_turns(
            {name: (lambda call=call, xs=xs: call(xs)) for name, call in calls.items()}, rounds=5
        )
        for name in lines:
            lines[name].append([inputs, 1000 * times.median(name)])
    return [
        {"title": "Laplacian, MLP n-128-128-1, batch 32", "x": "dimension n", "y": "ms",
         "lines": lines}
    ]  # fmt: skip


def _mlp_energy(inputs: int, hidden: int, activation: Any) -> Callable[[Any], Any]:
    first, second, last = (
        _kernel((inputs, hidden), 0), _kernel((hidden, hidden), 1), _kernel((hidden, 1), 2),
    )  # fmt: skip

    def energy(xs: Any) -> Any:
        return (activation(activation(xs @ first) @ second) @ last)[..., 0]

    return energy


def _ours(energy: Callable[[Any], Any], xs: Any) -> Callable[[Any], Any]:
    if xs.ndim == 2:
        return lambda xs: jacreg.laplacian(energy, xs)
    coloring = jacreg.color(energy, jax.ShapeDtypeStruct(xs.shape, xs.dtype), quantity="laplacian")
    return lambda xs: jacreg.laplacian(energy, xs, coloring)


def _folx(folx: Any, energy: Callable[[Any], Any], threshold: float) -> Callable[[Any], Any]:
    def one(x: Any) -> Any:
        return energy(x[None])[0]

    return jax.vmap(
        lambda x: folx.forward_laplacian(one, sparsity_threshold=threshold)(x).laplacian
    )


def _hessian(energy: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def trace(x: Any) -> Any:
        return jnp.trace(jax.hessian(lambda x: energy(x[None])[0])(x))

    return trace
