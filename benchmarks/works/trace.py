"""The trace of dense Jacobians by estimates of equal products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, counted, peer, timed
from benchmarks.works._dense_nets import Net, mlp, temporary_mib
from benchmarks.works._estimates import deviation_of_ratio, root_mean_square, unbiased
from jacreg._one_by_one import one_by_one

_BATCH, _SIZE, _PRODUCTS, _KEYS = 16, 128, 24, 256
_LOOPED = "the peer inside jacreg's loop over LAPACK calls: side by side jaxlib can hang"


def compare() -> list[Comparison]:
    """Error at equal products and time of one estimate, for each estimator and peer."""
    net = _network()
    truth = np.trace(np.asarray(jax.vmap(jax.jacfwd(net.one))(net.xs)), axis1=1, axis2=2)
    exact = jax.jit(lambda xs: jacreg.divergence(jacreg.linearize(net.fn, xs)))(net.xs)
    np.testing.assert_allclose(exact, truth, rtol=1e-4)
    rows = []
    for name, (method, theirs) in _estimators(net).items():
        ours = _ours(net, method)
        samples = {"ours": _draws(ours, net), **{n: _draws(fn, net) for n, fn in theirs.items()}}
        calls = {"ours": _call(ours, net), **{n: _call(fn, net) for n, fn in theirs.items()}}
        times = in_turns(calls)
        errors = {n: (each - truth) ** 2 for n, each in samples.items()}
        for n in theirs:
            unbiased(samples[n] - samples["ours"], n)
            same = {
                "setting": f"{net.setting}, {_PRODUCTS} products",
                "peer": n,
                "agreement": float(abs(np.mean(samples[n] - samples["ours"])) / np.mean(truth)),
            }
            looped = _LOOPED if name == "XTrace" else ""
            root = [root_mean_square(errors[m]) for m in ("ours", n)]
            deviation = deviation_of_ratio(errors["ours"], errors[n])
            rows.append(
                counted(
                    root[0], root[1], "error", work=f"{name}, root mean square error", most=1.1,
                    note=f"ratio +- {deviation:.2f}, one standard error of {_KEYS} keys", **same,
                )
            )  # fmt: skip
            rows.append(timed(times, "ours", n, work=name, most=1.0, note=looped, **same))
    return rows


def growth() -> list[dict[str, Any]]:
    """Time and temporary memory of Hutchinson's estimate and its gradient against the probes."""
    time: dict[str, list[list[float]]] = {}
    memory: dict[str, list[list[float]]] = {}
    key = jax.random.key(2)
    for net in (mlp((_SIZE, 256, _SIZE), _BATCH), _convolutions()):
        name = "MLP" if "MLP" in net.setting else "convolutions"
        for probes in (1, 2, 4, 8, 16, 32):

            def total(params: Any, probes: int = probes, net: Net = net) -> Any:
                lin = jacreg.linearize(lambda xs: net.apply(params, xs), net.xs)
                return jnp.sum(jacreg.divergence(lin, jacreg.Hutchinson(probes), key=key))

            for what, fn in (("value", total), ("gradient", jax.grad(total))):
                compiled = jax.jit(fn).lower(net.params).compile()
                line = f"{name}, {what}"
                memory.setdefault(line, []).append([probes, temporary_mib(compiled)])
                call = {"ours": lambda compiled=compiled, net=net: compiled(net.params)}
                seconds = in_turns(call, rounds=5).median("ours")
                time.setdefault(line, []).append([probes, 1000 * seconds])
    title = "Hutchinson's estimate"
    return [
        {"title": title, "x": "probes", "y": "ms", "lines": time},
        {"title": f"{title}, memory", "x": "probes", "y": "temporary MiB", "lines": memory},
    ]


def _convolutions() -> Net:
    """A field on images: two convolutions 3x3 with tanh between them."""
    keys = jax.random.split(jax.random.key(0), 3)
    kernels = [
        jax.random.normal(key, shape) / 5
        for key, shape in zip(keys[:2], ((3, 3, 3, 8), (3, 3, 8, 3)), strict=True)
    ]

    def layer(xs: Any, kernel: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def apply(params: Any, xs: Any) -> Any:
        return layer(jnp.tanh(layer(xs, params[0])), params[1])

    xs = jax.random.normal(keys[2], (4, 16, 16, 3))
    return Net("two convolutions 3x3, 16x16x3, batch 4", apply, kernels, xs)


def _network() -> Net:
    """A field whose Jacobian A S A^T has a falling spectrum, as trained ones have."""
    net = mlp((_SIZE, 256, _SIZE), _BATCH)
    first = net.params[0]
    second = 0.9 ** jnp.arange(256)[:, None] * first.T
    return net._replace(params=[first, second], setting=f"{net.setting}, falling spectrum")


def _estimators(net: Net) -> dict[str, tuple[Any, dict[str, Callable[[Any, Any], Any]]]]:
    """Our method and the peers' estimate of one example, from its product and a key."""
    stochtrace, matfree = peer("matfree.stochtrace", "matfree")
    matfree = matfree.replace(".stochtrace", "")
    traceax, traceax_version = peer("traceax")
    lineax, _ = peer("lineax")
    like = jnp.zeros(_SIZE)

    def on_operator(estimator: Any) -> Any:
        def estimate(product: Any, key: Any) -> Any:
            structure = jax.ShapeDtypeStruct((_SIZE,), jnp.float32)
            operator = lineax.FunctionLinearOperator(product, structure)
            return estimator.estimate(key, operator, _PRODUCTS)[0]

        return estimate

    # Its default Rademacher sampler draws integers, on which a float Jacobian fails.
    signs = traceax.RademacherSampler(dtype=float)
    hutchinson = stochtrace.estimator_monte_carlo(
        stochtrace.monte_carlo_trace(), stochtrace.sampler_signs(like, num=_PRODUCTS)
    )
    xtrace = stochtrace.estimator_leave_one_out(
        stochtrace.leave_one_out_xtrace(), stochtrace.sampler_normal(like, num=_PRODUCTS // 2)
    )
    traceax_version = f"{traceax_version}, float signs"
    plain = _every(net, jax.vmap)
    looped = _every(net, lambda one: one_by_one(jax.vmap(one)))
    return {
        "Hutchinson": (
            jacreg.Hutchinson(_PRODUCTS),
            {
                matfree: plain(hutchinson),
                traceax_version: plain(on_operator(traceax.HutchinsonEstimator(signs))),
            },
        ),
        "Hutch++": (
            jacreg.HutchPlusPlus(_PRODUCTS),
            {traceax_version: plain(on_operator(traceax.HutchPlusPlusEstimator(signs)))},
        ),
        "XTrace": (
            jacreg.XTrace(_PRODUCTS),
            {
                matfree: looped(xtrace),
                traceax_version.split(",")[0]: looped(on_operator(traceax.XTraceEstimator())),
            },
        ),
    }


def _every(net: Net, over_examples: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def batched(estimate: Any) -> Any:
        def one(x: Any, key: Any) -> Any:
            return estimate(jax.linearize(net.one, x)[1], key)

        return lambda xs, key: over_examples(one)(xs, jax.random.split(key, _BATCH))

    return batched


def _ours(net: Net, method: Any) -> Callable[[Any, Any], Any]:
    return lambda xs, key: jacreg.divergence(jacreg.linearize(net.fn, xs), method, key=key)


def _draws(estimate: Callable[[Any, Any], Any], net: Net) -> np.ndarray:
    keys = jax.random.split(jax.random.key(1), _KEYS)
    run = jax.jit(lambda xs, keys: jax.lax.map(lambda key: estimate(xs, key), keys))
    return np.asarray(run(net.xs, keys), np.float64)


def _call(estimate: Callable[[Any, Any], Any], net: Net) -> Callable[[], Any]:
    key = jax.random.key(2)
    compiled = jax.jit(estimate).lower(net.xs, key).compile()
    return lambda: compiled(net.xs, key)
