"""Peak memory and time of each quantity against batch, image size, outputs and probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from models.conv import conv

_CHANNELS = 8


class Size(NamedTuple):
    """Of a batch of square images of one channel and of a network on them."""

    batch: int = 4
    side: int = 8
    outputs: int = 4
    probes: int = 1


BASE = Size()
GROWN: Mapping[str, Size] = {
    "batch x 4": BASE._replace(batch=16),
    "side x 2": BASE._replace(side=16),
    "outputs x 4": BASE._replace(outputs=16),
    "probes x 4": BASE._replace(probes=4),
}


def _weights(size: Size) -> tuple[np.ndarray, ...]:
    draw = np.random.default_rng(0).normal
    flat = size.side**2 * _CHANNELS
    shapes = ((3, 3, 1, _CHANNELS), (3, 3, _CHANNELS, 1), (flat, size.outputs))
    return tuple((0.1 * draw(size=shape)).astype(np.float32) for shape in shapes)


def _convolve(xs: Any, kernel: Any) -> Any:
    return jnp.tanh(conv(xs, kernel))


def _classifier(weights: Any) -> Callable[[Any], Any]:
    return lambda xs: _convolve(xs, weights[0]).reshape(xs.shape[0], -1) @ weights[2]


def _field(weights: Any) -> Callable[[Any], Any]:
    return lambda xs: _convolve(_convolve(xs, weights[0]), weights[1])


def _of(network: Any, quantity: Callable[..., Any]) -> Callable[[Size], Callable[..., Any]]:
    def sized(size: Size) -> Callable[..., Any]:
        weights = _weights(size)
        return lambda xs, key: quantity(jacreg.linearize(network(weights), xs), key, size)

    return sized


def _colored(size: Size) -> Callable[..., Any]:
    field = _field(_weights(size))
    coloring = jacreg.color(field, jnp.zeros((size.batch, size.side, size.side, 1)))
    return lambda xs, key: jacreg.divergence(jacreg.linearize(field, xs), coloring)


QUANTITIES: Mapping[str, Callable[[Size], Callable[..., Any]]] = {
    "jacobian": _of(_classifier, lambda lin, key, size: jacreg.jacobian(lin)),
    "jacobian, Exact(chunk_size=1)": _of(
        _classifier, lambda lin, key, size: jacreg.jacobian(lin, jacreg.Exact(1))
    ),
    "frobenius, Projection": _of(
        _classifier,
        lambda lin, key, size: jacreg.frobenius_squared(
            lin, jacreg.Projection(size.probes), key=key
        ),
    ),
    "frobenius, Exact": _of(
        _classifier, lambda lin, key, size: jacreg.frobenius_squared(lin, jacreg.Exact())
    ),
    "frobenius, Exact(chunk_size=1)": _of(
        _classifier,
        lambda lin, key, size: jacreg.frobenius_squared(lin, jacreg.Exact(chunk_size=1)),
    ),
    "divergence, Hutchinson": _of(
        _field,
        lambda lin, key, size: jacreg.divergence(lin, jacreg.Hutchinson(size.probes), key=key),
    ),
    "divergence, Exact": _of(_field, lambda lin, key, size: jacreg.divergence(lin, jacreg.Exact())),
    "divergence, Coloring": _colored,
    "gram": _of(_classifier, lambda lin, key, size: jacreg.gram(lin)),
    "spectral_norm": _of(
        _classifier, lambda lin, key, size: jacreg.spectral_norm(lin, key=key, max_steps=8)
    ),
}


def measure(make: Callable[[Size], Callable[..., Any]], size: Size) -> dict[str, float]:
    """Return the peak of temporary memory that the compiled program plans, and its time."""
    function = jax.jit(make(size))
    shape = (size.batch, size.side, size.side, 1)
    xs = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    key = jax.random.key(0)
    compiled = function.lower(xs, key).compile()
    analysis = compiled.memory_analysis()
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(xs, key))
        seconds.append(time.perf_counter() - begun)
    return {
        "temporary_bytes": analysis.temp_size_in_bytes,
        "output_bytes": analysis.output_size_in_bytes,
        "milliseconds": 1000 * min(seconds[1:]),
    }


def run_growth() -> dict[str, Any]:
    """Measure every quantity; return the record."""
    rows = []
    for name, make in QUANTITIES.items():
        base = measure(make, BASE)
        row: dict[str, Any] = {"quantity": name, "base": base, "grown": {}}
        for change, size in GROWN.items():
            if (change.startswith("outputs") and "divergence" in name) or (
                change.startswith("probes") and not name.endswith(("Projection", "Hutchinson"))
            ):
                continue
            found = measure(make, size)
            row["grown"][change] = {
                "memory": _total(found) / max(_total(base), 1),
                "time": found["milliseconds"] / base["milliseconds"],
            }
        rows.append(row)
        print(f"  {name}: {base}", flush=True)
    return {
        "device": jax.devices()[0].device_kind,
        "base": BASE._asdict(),
        "quantities": rows,
    }


def _total(found: Mapping[str, float]) -> float:
    return found["temporary_bytes"] + found["output_bytes"]
