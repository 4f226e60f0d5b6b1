"""Exact Laplacian of energies: convolutional, dense, attention.

folx is the forward Laplacian, jitted, over the batch by vmap, at both ends of its sparsity option;
its faster setting counts. `jvp of grad` is the diagonal of the Hessian, its entries side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jacreg
from benchmarks import _clock, _comparison
from benchmarks._comparison import Comparison, assert_equal, timed
from benchmarks.methods import _convolutions
from benchmarks.works._energies import attention, convolutions, mlp

_WORK = "exact Laplacian"
_ACTIVATIONS = {"tanh": jnp.tanh, "softplus": jax.nn.softplus}
# 0, the default, is dense throughout; with 0.6 a layer whose rows are sparser stays sparse.
_THRESHOLDS = (0, 0.6)


class _Row(NamedTuple):
    """An energy, a batch, and what is asked of its row.

    Attributes:
        most: the largest ratio to folx that reaches the aim.
        most_nested: that to nested jvp of grad; None where it is shown alone.
        nested: whether that is run at all: it takes a product an entry of the input.
    """

    setting: str
    energy: Callable[[Any], Any]
    shape: tuple[int, ...]
    most: float
    floor: str
    rounds: int = 9
    most_nested: float | None = None
    nested: bool = True


def _rows() -> list[_Row]:
    local = _convolutions(2)
    rows = [
        _Row(
            "squares of 2 convolutions 3x3, 32x32x3, batch 1",
            lambda xs: (local(xs) ** 2).sum((1, 2, 3)),
            (1, 32, 32, 3),
            0.033,
            "one product of a 3x3 kernel and two 3x3 x 3 cones a pixel, no product an entry",
            rounds=5,
            nested=False,
        )
    ]
    for inputs, hidden in ((32, 128), (64, 256)):
        floor = f"{inputs * hidden * hidden / 1e6:.2g} million multiplications an example: one "
        floor += "product of the input's rows with W_2"
        for name, activation in _ACTIVATIONS.items():
            energy = mlp((inputs, hidden, hidden, 1), activation)
            for batch in (16, 256):
                setting = f"MLP {inputs}-{hidden}-{hidden}-1, {name}, batch {batch}"
                rows.append(_Row(setting, energy, (batch, inputs), 0.8, floor))
    deep = (50, 768, 768, 512, 512, 1)
    dense = "50 rows through each layer but the first"
    rows.append(
        _Row("MLP 50-768-768-512-512-1, tanh, batch 8", mlp(deep, jnp.tanh), (8, 50), 0.8, dense)
    )
    for tokens, features, batch in ((16, 8, 8), (32, 16, 2)):
        rows.append(
            _Row(
                f"2 pre-norm blocks of attention, {tokens} tokens of {features}, batch {batch}",
                attention(features),
                (batch, tokens, features),
                0.5,
                f"{features} directions up to the first scores, {tokens * features} behind them",
                most_nested=1.0,
            )
        )
    cones = "9, 25 and 49 directions in the three layers"
    for side, batch, energy, kind, most, floor in (
        (12, 8, convolutions(), "", 0.4, cones),
        (14, 8, convolutions(strides=(1, 2, 1)), ", strides 1, 2, 1", 0.4,
         "9, 25 and 81 directions in the three layers"),
        (10, 8, convolutions(groups=2), ", group norms", 0.8,
         "100 directions behind the first norm"),
        (28, 1, convolutions(), "", 0.1, cones),
    ):  # fmt: skip
        setting = f"3 convolutions 3x3 of 8 channels{kind}, {side}x{side}x1, batch {batch}"
        shape = (batch, side, side, 1)
        rows.append(_Row(setting, energy, shape, most, floor, rounds=5, nested=side < 28))
    return rows


def compare() -> list[Comparison]:
    """Convolutional energies, dense ones, attention."""
    return [line for row in _rows() for line in _compare(row)]


def _compare(row: _Row) -> list[Comparison]:
    folx, version = _comparison.peer("folx")
    logging.getLogger("folx").setLevel(logging.ERROR)
    xs = jax.random.normal(jax.random.key(0), row.shape)
    calls: dict[str, Any] = {"ours": jax.jit(_ours(row.energy))}
    for threshold in _THRESHOLDS:
        calls[f"folx {threshold}"] = jax.jit(_folx(folx, row.energy, threshold))
    if row.nested:
        calls["nested"] = jax.jit(jax.vmap(_nested(row.energy)))
    found = calls["ours"](xs)
    agreement = {name: assert_equal(found, call(xs), 1e-4) for name, call in calls.items()}
    times = _clock.in_turns(
        {name: (lambda call=call: call(xs)) for name, call in calls.items()}, rounds=row.rounds
    )
    best = min((name for name in calls if name.startswith("folx")), key=times.median)
    peers: list[tuple[str, str, float | None]] = [
        (best, f"{version}, sparsity_threshold={best.split()[1]}", row.most)
    ]
    if row.nested:
        peers.append(("nested", "jvp of grad, an entry at a time", row.most_nested))
    return [
        timed(times, "ours", name, work=_WORK, setting=row.setting, peer=peer, most=limit,
              floor=row.floor, agreement=agreement[name])
        for name, peer, limit in peers
    ]  # fmt: skip


def growth() -> list[dict[str, Any]]:
    """Milliseconds against the dimension of an MLP's input."""
    folx, _ = _comparison.peer("folx")
    lines: dict[str, list[list[float]]] = {"jacreg": [], "folx": [], "jvp of grad": []}
    for inputs in (8, 16, 32, 64, 128):
        energy = mlp((inputs, 128, 128, 1), jnp.tanh)
        xs = jax.random.normal(jax.random.key(0), (32, inputs))
        calls = {
            "jacreg": jax.jit(_ours(energy)),
            "folx": jax.jit(_folx(folx, energy, 0)),
            "jvp of grad": jax.jit(jax.vmap(_nested(energy))),
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


def _ours(energy: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda xs: jacreg.laplacian(jacreg.linearize(energy, xs))


def _folx(folx: Any, energy: Callable[[Any], Any], threshold: float) -> Callable[[Any], Any]:
    def one(x: Any) -> Any:
        return energy(x[None])[0]

    return jax.vmap(
        lambda x: folx.forward_laplacian(one, sparsity_threshold=threshold)(x).laplacian
    )


def _nested(energy: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def trace(x: Any) -> Any:
        gradient = jax.grad(lambda flat: energy(flat.reshape(1, *x.shape))[0])
        flat = x.reshape(-1)

        def entry(direction: Any) -> Any:
            return jax.jvp(gradient, (flat,), (direction,))[1] @ direction

        return jax.vmap(entry)(jnp.eye(flat.size)).sum()

    return trace
