"""The Jacobian of each example of a batched network, `[N, *out, *in]`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, counted, peer, timed
from benchmarks.works._dense_nets import Net, convolutional, in_torch, mlp, temporary_mib

_WORK = "per-example Jacobian"
_TOLERANCE = 1e-5


def compare() -> list[Comparison]:
    """Time ours against jacrev, jacfwd and torch.func, and compare the memory."""
    torch, torch_version = peer("torch")
    reverse, forward = jax.jacrev, jax.jacfwd
    rows: list[Comparison] = []
    for net, transforms in (
        (convolutional(32), {"vmap(jacrev)": reverse}),
        (mlp((784, 256, 256, 10), 64), {"vmap(jacrev)": reverse}),
        (mlp((64, 256, 256, 64), 64), {"vmap(jacrev)": reverse, "vmap(jacfwd)": forward}),
        (mlp((16, 128, 256, 784), 64), {"vmap(jacfwd)": forward}),
    ):
        wide = net.xs[0].size >= net.one(net.xs[0]).size
        calls = {"ours": _call(_ours(net), net)}
        for name, transform in transforms.items():
            calls[name] = _call(jax.vmap(transform(net.one)), net)
        name = f"torch.func, {torch_version}, best chunk"
        rows += _rows(net, calls)
        # Apart: PyTorch's threads spin for a while after a call, which slows what comes next.
        rows += _rows(net, {"ours": calls["ours"], name: _torch(torch, net, reverse=wide)})
    return [*rows, _the_other_direction(), *_memory()]


def _rows(net: Net, calls: dict[str, Callable[[], Any]]) -> list[Comparison]:
    reference = calls["ours"]()
    peers = list(calls)[1:]
    differences = {name: assert_equal(reference, calls[name](), _TOLERANCE) for name in peers}
    times = in_turns(calls, rounds=15)
    same = {"work": _WORK, "setting": net.setting, "most": 1.0}
    return [
        timed(times, "ours", name, peer=name, agreement=differences[name], **same) for name in peers
    ]


def _the_other_direction() -> Comparison:
    """What the wrong direction costs: jacfwd of a classifier, at few examples."""
    net = convolutional(4)
    calls = {"ours": _call(_ours(net), net), "theirs": _call(jax.vmap(jax.jacfwd(net.one)), net)}
    difference = assert_equal(calls["ours"](), calls["theirs"](), _TOLERANCE)
    times = in_turns(calls, rounds=5)
    return timed(
        times, "ours", "theirs", work=_WORK, setting=net.setting, peer="vmap(jacfwd)", most=1.0,
        agreement=difference, note="784 tangents where 10 cotangents do",
    )  # fmt: skip


def _memory() -> list[Comparison]:
    net, chunk = convolutional(32, outputs=64), 8
    ours = _compiled(_ours(net, chunk), net)
    theirs = _compiled(jax.vmap(jax.jacrev(net.one)), net)
    difference = assert_equal(ours(net.xs), theirs(net.xs), _TOLERANCE)
    same = {"work": "its temporary memory", "setting": net.setting, "unit": "MiB", "most": 1.0}
    bounded = counted(
        temporary_mib(ours), temporary_mib(theirs), peer="vmap(jacrev)",
        agreement=difference, note=f"ours with chunk_size={chunk}", **same,
    )  # fmt: skip
    chunked = _compiled(jax.vmap(functools.partial(_rows_by_map, net, chunk)), net)
    assert_equal(ours(net.xs), chunked(net.xs), _TOLERANCE)
    by_hand = counted(
        temporary_mib(ours), temporary_mib(chunked), peer="vmap of vjp in chunks by lax.map",
        agreement=difference, note=f"both in chunks of {chunk}", **same,
    )  # fmt: skip
    return [bounded, by_hand]


def _rows_by_map(net: Net, chunk: int, x: Any) -> Any:
    """One example's rows, a chunk at a time: what `jacrev` with chunks would be in JAX."""
    value, pull = jax.vjp(net.one, x)
    basis = jnp.eye(value.size, dtype=value.dtype)
    return jax.lax.map(lambda row: pull(row)[0], basis, batch_size=chunk)


def growth() -> list[dict[str, Any]]:
    """Time and memory against outputs, examples and the side of the image."""
    outputs = [(m, convolutional(8, outputs=m)) for m in (8, 16, 32, 64)]
    examples = [(n, convolutional(n)) for n in (8, 16, 32, 64)]
    sides = [(s, convolutional(8, side=s)) for s in (16, 32, 64)]
    chunked = [[m, temporary_mib(_compiled(_ours(net, 8), net))] for m, net in outputs]
    whole = [
        [m, temporary_mib(_compiled(jax.vmap(jax.jacrev(net.one)), net))] for m, net in outputs
    ]
    return [
        _timed_series("outputs, 8 examples of 28x28", "outputs", outputs),
        {
            "title": "temporary memory, 8 examples of 28x28", "x": "outputs", "y": "MiB",
            "lines": {"ours, chunk_size=8": chunked, "vmap(jacrev)": whole},
        },
        _timed_series("examples of 28x28, 10 outputs", "examples", examples),
        _timed_series("image side, 8 examples, 10 outputs", "side", sides),
    ]  # fmt: skip


def _timed_series(title: str, x: str, nets: list[tuple[int, Net]]) -> dict[str, Any]:
    lines: dict[str, list[list[float]]] = {"ours": [], "vmap(jacrev)": []}
    for size, net in nets:
        calls = {"ours": _call(_ours(net), net)}
        calls["vmap(jacrev)"] = _call(jax.vmap(jax.jacrev(net.one)), net)
        times = in_turns(calls, rounds=5)
        for name, points in lines.items():
            points.append([size, 1000 * times.median(name)])
    return {"title": title, "x": x, "y": "ms", "lines": lines}


def _ours(net: Net, chunk_size: int | None = None) -> Callable[[Any], Any]:
    return lambda xs: jacreg.jacobian(jacreg.linearize(net.fn, xs), jacreg.Exact(chunk_size))


def _compiled(fn: Callable[[Any], Any], net: Net) -> Any:
    return jax.jit(fn).lower(net.xs).compile()


def _call(fn: Callable[[Any], Any], net: Net) -> Callable[[], Any]:
    compiled = _compiled(fn, net)
    return lambda: compiled(net.xs)


def _torch(torch: Any, net: Net, *, reverse: bool) -> Callable[[], Any]:
    """The peer at the fastest of a few chunk sizes, as `[N, *out, *in]` with channels last."""
    fn, xs = in_torch(torch, net)

    def call(chunk: int | None) -> Callable[[], Any]:
        func = torch.func
        if reverse:
            mapped = func.vmap(func.jacrev(fn, chunk_size=chunk))
        else:
            mapped = func.vmap(func.jacfwd(fn), chunk_size=chunk)

        def run() -> Any:
            with torch.no_grad():
                found = mapped(xs)
            return np.moveaxis(found.numpy(), 2, -1) if xs.ndim == 4 else found.numpy()

        return run

    calls = {chunk: call(chunk) for chunk in (None, 4, 16)}
    times = in_turns({str(chunk): each for chunk, each in calls.items()}, rounds=5)
    return calls[min(calls, key=lambda chunk: times.median(str(chunk)))]
