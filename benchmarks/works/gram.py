"""J(x1) J(x2)^T without the Jacobians, and the empirical neural tangent kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, counted, timed
from benchmarks.works._dense_nets import Net, convolutional, mlp, temporary_mib

_TOLERANCE = 1e-4
_PEER = "materialised and contracted"
_NO_NEURAL_TANGENTS = "neural-tangents does not import on this jax"


def compare() -> list[Comparison]:
    """Time and memory of both against the contraction of dense Jacobians."""
    rows = []
    for net in (convolutional(64), convolutional(128), mlp((784, 256, 256, 10), 128)):
        rows += _both(
            "J(x1) J(x2)^T", net, _gram(net), _materialised_gram(net), (net.xs, net.xs[::-1])
        )
        rows += _both("J J^T", net, _own_gram(net), _materialised_own(net), (net.xs,))
    for net in (convolutional(64), convolutional(128), mlp((784, 256, 256, 10), 64)):
        rows += _both(
            "empirical NTK", net, _kernel(net), _materialised_kernel(net), (net.xs,),
            note=_NO_NEURAL_TANGENTS,
        )  # fmt: skip
    return rows


def growth() -> list[dict[str, Any]]:
    """Time and memory of the kernel against the examples."""
    nets = [(n, convolutional(n)) for n in (16, 32, 64)]
    lines: dict[str, list[list[float]]] = {"ours": [], _PEER: []}
    memory: dict[str, list[list[float]]] = {"ours": [], _PEER: []}
    for count, net in nets:
        ours, theirs = _compiled(_kernel(net), net.xs), _compiled(_materialised_kernel(net), net.xs)
        times = in_turns(
            {"ours": lambda o=ours, x=net.xs: o(x), _PEER: lambda t=theirs, x=net.xs: t(x)},
            rounds=5,
        )
        for name, program in (("ours", ours), (_PEER, theirs)):
            lines[name].append([count, 1000 * times.median(name)])
            memory[name].append([count, temporary_mib(program)])
    title = "empirical NTK of two convolutions"
    return [
        {"title": title, "x": "examples", "y": "ms", "lines": lines},
        {"title": f"{title}, memory", "x": "examples", "y": "MiB", "lines": memory},
    ]


def _both(
    work: str,
    net: Net,
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    args: Any,
    **others: Any,
) -> list[Comparison]:
    programs = {"ours": _compiled(ours, *args), "theirs": _compiled(theirs, *args)}
    difference = assert_equal(programs["ours"](*args), programs["theirs"](*args), _TOLERANCE)
    times = in_turns({name: lambda p=p: p(*args) for name, p in programs.items()})
    same = {"setting": net.setting, "peer": _PEER, "most": 1.0, "agreement": difference}
    memory = [temporary_mib(programs[name]) for name in ("ours", "theirs")]
    return [
        timed(times, "ours", "theirs", work=work, **same, **others),
        counted(memory[0], memory[1], "MiB", work=f"{work}, temporary memory", **same),
    ]


def _compiled(fn: Callable[..., Any], *args: Any) -> Any:
    return jax.jit(fn).lower(*args).compile()


def _rows(net: Net, xs: Any) -> Any:
    found = jax.vmap(jax.jacrev(net.one))(xs)
    return found.reshape(*found.shape[:2], -1)


def _gram(net: Net) -> Callable[[Any, Any], Any]:
    def gram(first: Any, second: Any) -> Any:
        left, right = (jacreg.linearize(net.fn, xs) for xs in (first, second))
        return jacreg.gram(left, right)

    return gram


def _own_gram(net: Net) -> Callable[[Any], Any]:
    return lambda xs: jacreg.gram(jacreg.linearize(net.fn, xs))


def _outputs(net: Net) -> int:
    return net.params[-1].shape[1]


def _materialised_gram(net: Net) -> Callable[[Any, Any], Any]:
    return lambda first, second: jnp.einsum("nai,nbi->nab", _rows(net, first), _rows(net, second))


def _materialised_own(net: Net) -> Callable[[Any], Any]:
    def gram(xs: Any) -> Any:
        rows = _rows(net, xs)
        return jnp.einsum("nai,nbi->nab", rows, rows)

    return gram


def _kernel(net: Net) -> Callable[[Any], Any]:
    return lambda xs: jacreg.empirical_ntk(net.apply, net.params, xs)


def _materialised_kernel(net: Net) -> Callable[[Any], Any]:
    def kernel(xs: Any) -> Any:
        one = lambda x: jax.jacrev(lambda params: net.apply(params, x[None])[0])(net.params)  # noqa: E731
        found = [j.reshape(len(xs), -1) for j in jax.vmap(one)(xs)]
        return sum(j @ j.T for j in found)

    return kernel
