"""Exact divergence of convolutional vector fields.

A field of 2, 3 or 4 convolutions, 3x3 SAME, 16 hidden channels, tanh, on images 32x32x3; once with
a time concatenated in front of every layer, as flows have it (FFJORD's networks). asdex
gives the sparse Jacobian, its colouring made outside the timing; the trace is taken from its
stored entries at places found beforehand, over the batch by vmap or `lax.map`, whichever is
faster. jacfwd gives the dense Jacobian of one image. Hutchinson's one probe is no exact method
and is shown for what an estimate costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks import _clock, _comparison
from benchmarks._comparison import Comparison, assert_equal, timed
from benchmarks.methods import _convolutions

_WORK = "exact divergence"
_FLOOR = {
    2: "one elementwise product with D_1: the two kernels meet in weights without the image",
    3: "one convolution 16 to 16 a pixel, 2304 multiplications, as one layer of the network",
    4: "486 x 256 multiplications a pixel by the cone, 270 x 3 x 256 here; by colours 1350 x 256",
}


def compare() -> list[Comparison]:
    """Each depth at a batch of 1 and of 8; one with a time in front of each layer."""
    rows = []
    for depth in (2, 3, 4):
        field = _convolutions(depth)
        theirs, version = _asdex(field)
        for batch in (1, 8):
            rows += _compare(depth, batch, field, theirs, version)
    timed_field = _convolutions(3, time=0.3)
    return rows + _compare(3, 8, timed_field, *_asdex(timed_field), beside=", a time beside each")


def _compare(
    depth: int, batch: int, field: Any, theirs: dict[str, Any], version: str, beside: str = ""
) -> list[Comparison]:
    xs = _images(batch, 32)
    coloring = jacreg.color(field, jax.ShapeDtypeStruct(xs.shape, xs.dtype))
    by_colors = coloring
    key = jax.random.key(1)
    calls = {
        "ours": jax.jit(lambda xs: _divergence(field, xs, coloring)),
        "colours": jax.jit(lambda xs: _divergence(field, xs, by_colors)),
        "Hutchinson": jax.jit(lambda xs: _divergence(field, xs, jacreg.Hutchinson(), key)),
        **theirs,
    }
    found = calls["ours"](xs)
    agreement = {name: assert_equal(found, call(xs), 1e-4) for name, call in calls.items()
                 if name != "Hutchinson"}  # fmt: skip
    if batch == 1:
        calls["jacfwd"] = jax.jit(lambda xs: _dense(field, xs))
        agreement["jacfwd"] = assert_equal(found, calls["jacfwd"](xs), 1e-4)
    times = _clock.in_turns(
        {name: (lambda call=call: call(xs)) for name, call in calls.items()}, rounds=5
    )
    best = min(theirs, key=times.median)
    setting = f"{depth} convolutions 3x3{beside}, 32x32x3, batch {batch}"
    peers = [
        (best, f"{version}, {best.removeprefix('asdex ')}", 0.25),
        ("colours", f"jacreg by {coloring.num_colors} colours", None),
        ("Hutchinson", "one Hutchinson probe (an estimate)", None),
    ]
    if batch == 1:
        peers.append(("jacfwd", "jax.jacfwd and trace", 0.01))
    return [
        timed(times, "ours", name, work=_WORK, setting=setting, peer=peer, most=most,
              floor=_FLOOR[depth], agreement=agreement.get(name))
        for name, peer, most in peers
    ]  # fmt: skip


def growth() -> list[dict[str, Any]]:
    """Milliseconds a pixel against the image, and an image against depth."""
    sides = (8, 16, 32, 64)
    pixels: dict[str, list[list[float]]] = {}
    depths: dict[str, list[list[float]]] = {"by the chain": [], "by colours": []}
    for depth in (2, 3, 4, 5):
        field = _convolutions(depth)
        coloring = jacreg.color(field, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
        chain = _milliseconds(field, coloring, 32)
        by_colors = coloring
        depths["by the chain"].append([depth, chain])
        depths["by colours"].append([depth, _milliseconds(field, by_colors, 32)])
        if depth in (3, 4):
            pixels[f"{depth} convolutions"] = [
                [side, _milliseconds(field, jacreg.Exact(), side) / side**2] for side in sides
            ]
    return [
        {"title": "Divergence, batch 4", "x": "image side", "y": "ms a pixel", "lines": pixels},
        {"title": "Divergence, 32x32x3, batch 4", "x": "convolutions", "y": "ms", "lines": depths},
    ]


def _milliseconds(field: Any, method: Any, side: int) -> float:
    xs = _images(4, side)
    call = jax.jit(lambda xs: _divergence(field, xs, method))
    return 1000 * _clock.in_turns({"ours": lambda: call(xs)}, rounds=5).median("ours")


def _images(batch: int, side: int) -> Any:
    return jax.random.normal(jax.random.key(0), (batch, side, side, 3))


def _divergence(field: Any, xs: Any, method: Any, key: Any = None) -> Any:
    return jacreg.divergence(jacreg.linearize(field, xs), method, key=key)


def _dense(field: Callable[[Any], Any], xs: Any) -> Any:
    jacobian = jax.jacfwd(lambda x: field(x[None])[0])(xs[0])
    return jnp.trace(jacobian.reshape(xs[0].size, xs[0].size))[None]


def _asdex(field: Callable[[Any], Any]) -> tuple[dict[str, Any], str]:
    asdex, version = _comparison.peer("asdex")

    def one(x: Any) -> Any:
        return field(x.reshape(1, 32, 32, 3)).reshape(-1)

    x = jnp.zeros(32 * 32 * 3)
    sparse = asdex.jacobian_from_coloring(one, asdex.jacobian_coloring(one, x))
    indices = np.asarray(sparse(x).indices)
    (diagonal,) = np.nonzero(indices[:, 0] == indices[:, 1])

    def trace(x: Any) -> Any:
        return jnp.sum(sparse(x.reshape(-1)).data[diagonal])

    return {
        "asdex vmap": jax.jit(jax.vmap(trace)),
        "asdex lax.map": jax.jit(lambda xs: jax.lax.map(trace, xs)),
    }, version
