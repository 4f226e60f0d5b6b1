"""The default beside the best method that one could name by hand.

`Auto()` chooses among the ways to an exact value from the program alone. Beside it are the methods
that one could name instead, each compiled and equal to it: products with basis vectors, in chunks
of several sizes, and the colours that `color` finds. The fastest of them counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

import jacreg
from benchmarks import _clock
from benchmarks._comparison import Comparison, assert_equal, timed
from benchmarks.works._fields import Field, padded, residual_convolutions, up_and_down

_CHUNKS = (None, 1, 16, 64)
_SLOW = 3.0  # times the fastest first call: no candidate for the best
_QUANTITIES = (jacreg.divergence, jacreg.frobenius_squared)


def compare() -> list[Comparison]:
    """Each network and quantity."""
    return [_compare(quantity, *network) for network in _networks() for quantity in _QUANTITIES]


def _networks() -> list[tuple[str, Field, tuple[int, ...]]]:
    image = (24, 24, 2)
    return [
        ("5 periodic convolutions of 3 (nnx), 128x2, batch 8",
         padded(2, width=16, depth=5, kernel=(3,), padding="CIRCULAR"), (8, 128, 2)),
        ("5 reflecting convolutions 3x3 (nnx), 24x24x2, batch 2",
         padded(2, width=16, depth=5, kernel=(3, 3), padding="REFLECT"), (2, *image)),
        ("residual convolutions 3x3 dilated by 1, 2, 4 (linen), 24x24x2, batch 2",
         residual_convolutions(image, width=8, dilations=(1, 2, 4)), (2, *image)),
        ("strides down and resized up (linen), 24x24x2, batch 2", up_and_down(image), (2, *image)),
    ]  # fmt: skip


def _compare(
    quantity: Callable[..., Any], setting: str, field: Field, shape: tuple[int, ...]
) -> Comparison:
    xs = jax.random.normal(jax.random.key(0), shape)
    coloring = jacreg.color(field, xs, quantity=quantity)
    methods: dict[str, Any] = {
        f"Exact({'' if size is None else f'chunk_size={size}'})": jacreg.Exact(size)
        for size in _CHUNKS
    }
    methods[f"Coloring of {coloring.num_colors} colours"] = coloring
    calls = {"ours": _call(quantity, field, xs, jacreg.Auto())}
    calls |= {name: _call(quantity, field, xs, method) for name, method in methods.items()}
    found = calls["ours"]()
    agreement = {name: assert_equal(found, call(), 1e-4) for name, call in calls.items()}
    once = {name: _seconds(calls[name]) for name in methods}
    close = [name for name in methods if once[name] < _SLOW * min(once.values())]
    times = _clock.in_turns({name: calls[name] for name in ("ours", *close)}, rounds=7)
    best = min(close, key=times.median)
    plan = jacreg.plan(quantity, jacreg.linearize(field, xs))
    return timed(
        times, "ours", best, work=f"default of {quantity.__name__}", setting=setting,
        peer=f"the best by name, {best}", most=1.15, agreement=agreement[best],
        note=f"ours: {plan.path}, {plan.num_products} products",
    )  # fmt: skip


def _call(quantity: Callable[..., Any], field: Field, xs: Any, method: Any) -> Callable[[], Any]:
    compiled = jax.jit(lambda xs: quantity(jacreg.linearize(field, xs), method))
    return lambda: compiled(xs)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started
