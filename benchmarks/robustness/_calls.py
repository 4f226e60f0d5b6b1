"""Call every public function with wrong arguments: a ValueError or a TypeError, or a result."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
import models
from jacreg import losses
from models import conv

_N, _D = 3, 4


class Call(NamedTuple):
    """A function of named arguments and values of them that work.

    The kinds of the values, by name, say what is put in their place.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]


def _points(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape or (_N, _D)).astype(np.float32)


_W = _points(_D, _D)
_KEY = np.asarray([0, 7], np.uint32)


def _field(xs: Any) -> Any:
    return jnp.tanh(xs @ _W)


def _scalar(xs: Any) -> Any:
    return jnp.sum(jnp.sin(xs) ** 2, axis=-1)


def _picture(xs: Any) -> Any:
    kernel = jnp.ones((3, 3, 1, 1))
    return jnp.tanh(conv.conv(xs, kernel))


def _at(quantity: Callable[..., Any]) -> Callable[..., Any]:
    """Return a quantity of a Linearization as a function of what the Linearization is made of."""

    def call(fn: Any, xs: Any, **arguments: Any) -> Any:
        return quantity(jacreg.linearize(fn, xs), **arguments)

    return call


_LIN = {"fn": _field, "xs": _points()}
_MAP = {"key": _KEY, "tolerance": 0.1}
CALLS: Mapping[str, Call] = {
    "linearize": Call(jacreg.linearize, {**_LIN, "has_aux": False, "mode": "both"}),
    "Linearization.jvp": Call(_at(lambda lin, v: lin.jvp(v)), {**_LIN, "v": _points()}),
    "Linearization.vjp": Call(_at(lambda lin, u: lin.vjp(u)), {**_LIN, "u": _points()}),
    "jacobian": Call(_at(jacreg.jacobian), {**_LIN, "method": jacreg.Exact(), "chunk_size": 2}),
    "diagonal": Call(
        _at(jacreg.diagonal), {**_LIN, "method": jacreg.Hutchinson(2), "key": _KEY}
    ),
    "divergence": Call(
        _at(jacreg.divergence), {**_LIN, "method": jacreg.Hutchinson(2), "key": _KEY}
    ),
    "frobenius_squared": Call(
        _at(jacreg.frobenius_squared), {**_LIN, "method": jacreg.Projection(2), "key": _KEY}
    ),
    "gram": Call(_at(jacreg.gram), {**_LIN, "other": None, "chunk_size": 2}),
    "spectral_norm": Call(_at(jacreg.spectral_norm), {**_LIN, **_MAP, "max_steps": 4}),
    "spectral_radius": Call(_at(jacreg.spectral_radius), {**_LIN, **_MAP, "max_products": 32}),
    "log_determinant": Call(
        _at(jacreg.log_determinant),
        {**_LIN, "key": _KEY, "num_terms": 3, "num_probes": 1, "continuation": 0.5},
    ),
    "log_pseudo_determinant": Call(
        _at(jacreg.log_pseudo_determinant), {**_LIN, "method": jacreg.Exact(), "chunk_size": 2}
    ),
    "laplacian": Call(
        jacreg.laplacian,
        {"fn": _scalar, "xs": _points(), "method": jacreg.Hutchinson(1), "key": _KEY},
    ),
    "layerwise_log_frobenius": Call(
        jacreg.layerwise_log_frobenius,
        {"layers": [_field, _field], "xs": _points(), "method": jacreg.Exact(), "key": None},
    ),
    "operator_norm": Call(
        jacreg.operator_norm,
        {"linear_map": lambda x: _W @ x, "in_shape": (_D,), **_MAP, "max_steps": 4},
    ),
    "empirical_ntk": Call(
        jacreg.empirical_ntk,
        {"apply": lambda p, xs: jnp.tanh(xs @ p["w"]), "params": {"w": _W}, "xs": _points(),
         "others": None, "trace_outputs": True, "chunk_size": 2},
    ),
    "rows_independent": Call(jacreg.rows_independent, _LIN),
    "color": Call(
        jacreg.color,
        {"fn": _picture, "xs": _points(2, 5, 5, 1), "quantity": "divergence", "chunk_size": 2},
    ),
    "choose": Call(
        jacreg.choose, {**_LIN, "quantity": "frobenius", "budget": 4, "key": _KEY}
    ),
    "with_standard_error": Call(
        _at(jacreg.with_standard_error(jacreg.divergence)),
        {**_LIN, "method": jacreg.Hutchinson(2), "key": _KEY},
    ),
    "Exact": Call(jacreg.Exact, {"chunk_size": 2}),
    "Projection": Call(
        jacreg.Projection, {"num_probes": 1, "distribution": "sphere", "mode": "reverse"}
    ),
    "Hutchinson": Call(jacreg.Hutchinson, {"num_probes": 1, "distribution": "rademacher"}),
    "HutchPlusPlus": Call(jacreg.HutchPlusPlus, {"num_products": 6}),
    "XTrace": Call(jacreg.XTrace, {"num_products": 6}),
    "Lanczos": Call(jacreg.Lanczos, {"num_probes": 1, "order": 3, "distribution": "rademacher"}),
    "NoiseInjection": Call(jacreg.NoiseInjection, {"scale": 0.1, "num_probes": 1}),
    "CoupledBatch": Call(jacreg.CoupledBatch, {"num_probes": 1}),
    "losses.jacobian_penalty": Call(
        _at(losses.jacobian_penalty), {**_LIN, "method": jacreg.Exact(), "key": None}
    ),
    "losses.contractive_penalty": Call(
        _at(losses.contractive_penalty), {**_LIN, "method": jacreg.Exact(), "key": None}
    ),
    "losses.dense_contractive_penalty": Call(
        losses.dense_contractive_penalty,
        {"hidden": _points(3, 2), "kernel": _points(4, 2), "activation": "tanh"},
    ),
    "losses.contractive_hessian_penalty": Call(
        losses.contractive_hessian_penalty,
        {"encoder": _field, "xs": _points(), "scale": 0.1, "num_probes": 1, "key": _KEY,
         "method": jacreg.Projection()},
    ),
    "losses.noise_injection_penalty": Call(
        losses.noise_injection_penalty, {**_LIN, "scale": 0.1, "key": _KEY}
    ),
    "losses.gaussian_noise_regularizer": Call(
        lambda fn, xs, scales, loss: losses.gaussian_noise_regularizer(
            [jacreg.linearize(fn, xs)], scales, loss=loss
        ),
        {**_LIN, "scales": 0.1, "loss": "mse"},
    ),
    "losses.implicit_score_matching": Call(
        _at(losses.implicit_score_matching), {**_LIN, "method": jacreg.Exact(), "key": None}
    ),
    "losses.sliced_score_matching": Call(
        _at(losses.sliced_score_matching),
        {**_LIN, "num_probes": 1, "variance_reduced": True, "key": _KEY},
    ),
    "losses.denoising_score_matching": Call(
        losses.denoising_score_matching,
        {"score": _field, "xs": _points(), "scale": 0.1, "key": _KEY},
    ),
    "losses.finite_difference_score_matching": Call(
        losses.finite_difference_score_matching,
        {"score": _field, "xs": _points(), "scale": 0.1, "key": _KEY},
    ),
    "losses.flow_regularizers": Call(
        _at(losses.flow_regularizers), {**_LIN, "probes": _points()}
    ),
    "losses.equilibrium_jacobian_penalty": Call(
        losses.equilibrium_jacobian_penalty,
        {"cell": _field, "state": _points(), "key": _KEY, "num_probes": 1},
    ),
    "losses.nuclear_norm_penalty": Call(
        losses.nuclear_norm_penalty,
        {"outer": _field, "inner": _field, "xs": _points(), "scale": 0.1, "key": _KEY},
    ),
    "losses.spectral_penalty": Call(
        _at(losses.spectral_penalty), {**_LIN, "key": _KEY, "num_iterations": 2}
    ),
    "losses.jacobian_matching": Call(
        _at(losses.jacobian_matching), {**_LIN, "targets": _points(_N, _D, _D)}
    ),
    "losses.layerwise_penalty": Call(
        losses.layerwise_penalty,
        {"layers": [_field], "xs": _points(), "method": jacreg.Exact(), "key": None},
    ),
    "losses.gradient_penalty": Call(
        losses.gradient_penalty, {"fn": _scalar, "xs": _points(), "target": 1.0}
    ),
    "losses.loss_gradient_penalty": Call(
        losses.loss_gradient_penalty,
        {"loss_fn": lambda xs, ys: jnp.sum((xs - ys) ** 2, 1), "xs": _points(),
         "labels": _points()},
    ),
    "losses.path_length_penalty": Call(
        losses.path_length_penalty,
        {"generator": lambda z: jnp.ones((1, 3, 3, 1)) * jnp.sum(z, 1)[:, None, None, None],
         "latents": _points(), "key": _KEY, "mean": 0.5},
    ),
    "losses.subsample": Call(losses.subsample, {"xs": _points(), "fraction": 0.5, "key": _KEY}),
    "losses.every": Call(lambda k, step: losses.every(k)(step), {"k": 2, "step": 4}),
    "losses.bernoulli": Call(
        lambda probability, key, step: losses.bernoulli(probability, key=key)(step),
        {"probability": 0.5, "key": _KEY, "step": 4},
    ),
    "losses.ramp": Call(
        lambda start, stop, num_steps, begin, step: losses.ramp(
            start, stop, num_steps, begin=begin
        )(step),
        {"start": 0.0, "stop": 1.0, "num_steps": 5, "begin": 1, "step": 3},
    ),
    "conv.ConvLayout": Call(
        conv.ConvLayout, {"inputs": "NHWC", "kernel": "HWIO", "outputs": "NHWC"}
    ),
    "conv.conv": Call(
        conv.conv,
        {"xs": _points(2, 5, 5, 2), "kernel": _points(3, 3, 2, 4), "layout": None, "strides": 1,
         "padding": "SAME", "input_dilation": 1, "kernel_dilation": 1, "groups": 1},
    ),
    "conv.conv_transpose": Call(
        conv.conv_transpose,
        {"xs": _points(2, 5, 5, 2), "kernel": _points(3, 3, 2, 4), "layout": None, "strides": 2,
         "padding": "SAME", "kernel_dilation": 1, "groups": 1, "transpose_kernel": False},
    ),
    "conv.max_pool": Call(
        conv.max_pool,
        {"xs": _points(2, 6, 6, 2), "window": 2, "layout": None, "strides": 2,
         "padding": "VALID"},
    ),
    "conv.average_pool": Call(
        conv.average_pool,
        {"xs": _points(2, 6, 6, 2), "window": 2, "layout": None, "strides": 2,
         "padding": "SAME", "count_padding": True},
    ),
    "conv.global_average_pool": Call(
        conv.global_average_pool, {"xs": _points(2, 6, 6, 2), "layout": None}
    ),
    "conv.flatten": Call(conv.flatten, {"xs": _points(2, 6, 6, 2), "axes": "NHWC"}),
    "conv.transpose_axes": Call(
        conv.transpose_axes, {"xs": _points(2, 6, 6, 2), "source": "NHWC", "target": "NCHW"}
    ),
    "conv.add_bias": Call(
        conv.add_bias, {"ys": _points(2, 6, 6, 2), "bias": _points(2), "axes": "NHWC"}
    ),
    "conv.smooth": Call(
        conv.smooth, {"ys": _points(9), "window": _points(3), "mode": "same"}
    ),
    "conv.gaussian_smooth": Call(
        conv.gaussian_smooth, {"ys": _points(9), "scale": 1.0, "truncate": 3.0, "mode": "same"}
    ),
    "conv.gaussian_window": Call(
        conv.gaussian_window, {"scale": 1.0, "num_dims": 2, "truncate": 3.0}
    ),
    "conv.moving_average": Call(
        conv.moving_average, {"ys": _points(9), "size": 3, "mode": "same"}
    ),
    "conv.he_normal": Call(
        lambda layout, key, shape: conv.he_normal(layout)(key, shape),
        {"layout": None, "key": _KEY, "shape": (3, 3, 2, 4)},
    ),
    "models.build": Call(
        lambda name, framework, key, hidden: models.build(
            name, framework=framework, key=key, input_shape=(4,), num_classes=3, hidden=hidden
        ),
        {"name": "mlp", "framework": "equinox", "key": _KEY, "hidden": (5,)},
    ),
}  # fmt: skip

_FUNCTIONS: tuple[Any, ...] = (
    None, "f", 3, jnp.sin(1.0),
    lambda: 0,
    lambda xs: None,
    lambda xs: jnp.sum(xs),
    lambda xs: xs[:1],
    lambda xs: (xs, xs),
    lambda xs: {"a": xs, "b": jnp.sum(xs, -1)},
    lambda xs: "text",
    lambda xs: jnp.argmax(xs, -1),
    lambda xs: jnp.asarray(xs) + 1j,
    lambda xs: jnp.swapaxes(jnp.atleast_2d(xs), 0, -1),
    lambda xs: jnp.zeros((jnp.shape(xs)[0], 0)),
    lambda xs: xs * jnp.nan,
    lambda xs: 2.0,
    lambda xs: [],
    lambda xs: jnp.asarray(xs).astype(jnp.float16),
    lambda xs: jnp.ones((jnp.shape(xs)[0], 7)),
)  # fmt: skip
_NUMBERS: tuple[Any, ...] = (
    None, "3", "", 0, -1, 1, 2**31, 10**30, 1.5, -0.5, True, float("nan"), float("inf"),
    -float("inf"), 1e-300, 1e300, [1], (), {}, np.float32("nan"), np.int64(2), np.zeros(3),
    np.asarray(2), 1j, (1, 2), (1, 2, 3), (-1, 2), (0, 0),
)  # fmt: skip
_TEXTS: tuple[Any, ...] = (
    None, "", "no such", 3, ("N",), ["NHWC"], "NHWC" * 50, "\x00", b"SAME", "NCHW", "valid",
    ("NHWC", "HWIO"), ("NCHW", "OIHW", "NCHW"), ("XYZW", "HWIO", "NHWC"), ("NHHC", 3, None), {},
    np.zeros(2), ((1, 1), (1, 1)), ((1, -9), (0, 0)), [(1, 2)], 1.5, float("nan"),
)  # fmt: skip
_KEYS: tuple[Any, ...] = (
    None, 0, "key", np.zeros(2), np.zeros(3, np.uint32), np.zeros((2, 2), np.uint32), [0, 1],
    np.zeros((), np.uint32), {}, True,
)  # fmt: skip
_METHODS: tuple[Any, ...] = (
    None, "exact", jacreg.Exact, jacreg.Exact(), jacreg.Projection(), jacreg.Hutchinson(),
    jacreg.HutchPlusPlus(6), jacreg.XTrace(6), jacreg.Lanczos(1, 3), jacreg.NoiseInjection(0.1),
    jacreg.CoupledBatch(), jacreg.Projection(3, "gaussian", "forward"), 3, {}, (),
)  # fmt: skip


def _arrays(valid: Any) -> tuple[Any, ...]:
    array = np.asarray(valid)
    numbers = np.nan_to_num(array.astype(np.float32))
    return (
        None, "text", 3.0, [], {}, [[1.0, 2.0], [3.0]], object(), array.astype(object),
        np.asarray(["a", "b"]), numbers.astype(np.int32), numbers.astype(bool),
        numbers.astype(np.complex64), numbers.astype(np.float16), numbers.astype(np.float64),
        numbers.astype(np.uint8), np.full_like(numbers, np.nan), np.full_like(numbers, np.inf),
        numbers * np.float32(1e38), numbers[:0], numbers[..., :0], numbers[:1], numbers[None],
        numbers[0], numbers.sum(), numbers.T, np.concatenate([numbers, numbers]),
        np.concatenate([numbers, numbers], -1), [numbers, numbers], {"a": numbers},
        (numbers, None), numbers.tolist(), np.zeros((0, 0)), np.zeros((1,) * 12, np.float32),
    )  # fmt: skip


def wrong(name: str, valid: Any, rng: random.Random) -> Any:
    """Return something to put in the place of an argument."""
    if name == "key":
        pool: tuple[Any, ...] = _KEYS
    elif name == "method":
        pool = _METHODS
    elif name == "layers":
        pool = (None, [], _field, [_field, None], [_field, lambda xs: xs[:1]], "layers", [3])
    elif name == "params":
        pool = (None, {}, {"w": None}, {"w": "x"}, {"w": np.zeros((4, 4), int)},
                {"w": _W * np.nan}, {"w": _W.astype(object)}, [1.0])  # fmt: skip
    elif callable(valid) and not isinstance(valid, type):
        pool = _FUNCTIONS
    elif isinstance(valid, np.ndarray):
        pool = _arrays(valid)
    elif isinstance(valid, str) or name in ("layout", "padding"):
        pool = _TEXTS
    else:
        pool = _NUMBERS
    return pool[rng.randrange(len(pool))]


def _keyed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with a typed key in place of the stand-in."""
    return {
        name: jax.random.key(7) if value is _KEY else value for name, value in arguments.items()
    }


def fuzz_calls(count: int, seed: int = 0, traced: float = 0.7) -> dict[str, Any]:
    """Make `count` calls with one or two wrong arguments each; return the record.

    Args:
        count: of calls.
        seed: of the choices.
        traced: share that is only traced, as under jit, with the arrays abstract.
    """
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    problems: list[dict[str, str]] = []
    names = sorted(CALLS)
    for number in range(count):
        name = names[number % len(names)]
        call = CALLS[name]
        arguments = dict(call.arguments)
        chosen = rng.sample(sorted(arguments), min(len(arguments), rng.choice((1, 1, 1, 2))))
        for argument in chosen:
            arguments[argument] = wrong(argument, arguments[argument], rng)
        told = ", ".join(f"{argument}={_shown(arguments[argument])}" for argument in chosen)
        abstract = rng.random() < traced
        try:
            _make(call.function, _keyed(arguments), abstract)
            outcome = "a result"
        except (ValueError, TypeError) as error:
            outcome = "ValueError" if isinstance(error, ValueError) else "TypeError"
            if not str(error).strip():
                problems.append({"call": f"{name}({told})", "error": "no message"})
        except Exception as error:
            outcome = "another exception"
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            problems.append({"call": f"{name}({told})", "traced": str(abstract), "error": said})
        outcomes[outcome] += 1
    return {
        "seed": seed,
        "calls": count,
        "functions": len(names),
        "outcomes": dict(sorted(outcomes.items())),
        "problems": problems,
    }


def _make(function: Callable[..., Any], arguments: dict[str, Any], abstract: bool) -> Any:
    if not abstract:
        return jax.block_until_ready(function(**arguments))
    arrays = {
        name: value
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc" and value.size
    }
    rest = {name: value for name, value in arguments.items() if name not in arrays}
    made = []

    def traced(arrays: dict[str, Any]) -> int:
        made.append(function(**arrays, **rest))
        return 0

    return jax.eval_shape(traced, arrays)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        return (
            name
            if name != "<lambda>"
            else f"function {_FUNCTIONS.index(value)}"
            if any(value is each for each in _FUNCTIONS)
            else "a function"
        )
    return " ".join(repr(value).split())[:60]
