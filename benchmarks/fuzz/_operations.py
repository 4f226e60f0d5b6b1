"""Operations of random programs: each writes an expression of one or two values, or gives up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def fit(x: Any, shape: tuple[int, ...]) -> Any:
    """Entries repeated or left out until the shape fits; a batch stays a batch."""
    flat = x.reshape(x.shape[0], -1)
    size = 1
    for n in shape[1:]:
        size *= n
    times = -(-size // flat.shape[1])
    return jnp.tile(flat, (1, times))[:, :size].reshape((x.shape[0], *shape[1:]))


@jax.custom_jvp
def own_jvp(x: Any) -> Any:
    """A derivative rule that is not the value's."""
    return jnp.sin(x)


own_jvp.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), 2 * tangents[0] * primals[0]))


@jax.custom_vjp
def own_vjp(x: Any) -> Any:
    """A reverse rule alone."""
    return jnp.sin(x)


own_vjp.defvjp(lambda x: (jnp.sin(x), x), lambda x, u: (u * jnp.cos(x) + u,))


def conv(x: Any, kernel: Any, spec: str, **options: Any) -> Any:
    """A convolution in one of the usual layouts."""
    layouts = {
        "NWC": ("NWC", "WIO", "NWC"), "NCW": ("NCW", "OIW", "NCW"),
        "NHWC": ("NHWC", "HWIO", "NHWC"), "NCHW": ("NCHW", "OIHW", "NCHW"),
    }  # fmt: skip
    dims = len(spec) - 2
    options.setdefault("window_strides", (1,) * dims)
    return lax.conv_general_dilated(x, kernel, dimension_numbers=layouts[spec], **options)


def attend(x: Any, y: Any) -> Any:
    """Attention of the entries of two values."""
    a, b = x.reshape(x.shape[0], -1, x.shape[-1]), y.reshape(y.shape[0], -1, x.shape[-1])
    return jax.nn.softmax(a @ b.transpose(0, 2, 1), axis=-1) @ b


HELPERS = {
    "fit": fit, "own_jvp": own_jvp, "own_vjp": own_vjp, "conv": conv, "attend": attend,
    "partial": partial,
}  # fmt: skip

_UNARY = (
    "jnp.tanh({a})", "own_vjp({a})", "jnp.sin({a})", "jax.nn.relu({a})", "jnp.abs({a})",
    "{a} ** 2", "{a} ** 3",
    "jax.nn.softplus({a})", "jax.nn.gelu({a})", "jnp.clip({a}, -0.5, 0.5)", "1 / (1 + {a} ** 2)",
    "jnp.where({a} > 0, {a}, jnp.exp({a}) - 1)", "jnp.sign({a}) * {a}", "own_jvp({a})",
    "jax.jit(jnp.cos)({a})", "jax.checkpoint(jnp.sin)({a})", "lax.stop_gradient({a}) * {a}",
    "jnp.maximum({a}, 0)", "jnp.minimum({a}, {a} ** 2)", "jax.nn.silu({a})", "jax.nn.relu6({a})",
    "lax.integer_pow(1 + {a} ** 2, -1)", "jnp.round({a}) * {a}", "jnp.expm1({a} / 3)",
    "jnp.logaddexp({a}, 0)", "lax.reduce_precision({a}, 11, 52)", "jnp.nan_to_num({a})",
    "jnp.floor({a}) + {a}", "lax.optimization_barrier({a}) * 2", "(lambda h: h * h)(jnp.sin({a}))",
    "jax.grad(lambda h: (jnp.sin(h) * h).sum())({a})", "jnp.arctan2({a}, 2.0)", "{a} % 1.7",
)  # fmt: skip
_BINARY = (
    "{a} * fit({b}, {a}.shape)", "{a} + jnp.tanh(fit({b}, {a}.shape))",
    "jnp.maximum({a}, fit({b}, {a}.shape))", "jnp.where(fit({b}, {a}.shape) > 0, {a}, 2 * {a})",
    "{a} / (1 + fit({b}, {a}.shape) ** 2)", "jnp.hypot({a}, 1 + fit({b}, {a}.shape) ** 2)",
    "jnp.concatenate([{a}, jnp.sin(fit({b}, {a}.shape))], axis={x})",
    "jnp.stack([{a}, fit({b}, {a}.shape)], axis={x})", "attend({a}, fit({b}, {a}.shape))",
    "jnp.einsum('n...i,n...i->n...', {a}, fit({b}, {a}.shape))",
    "jnp.einsum('ni,nj->nij', {a}.reshape({a}.shape[0], -1)[:, :5], "
    "{b}.reshape({b}.shape[0], -1)[:, :5])",
    "jnp.matmul({a}, jnp.swapaxes(fit({b}, {a}.shape), -1, -2))",
    "lax.select_n(fit({b}, {a}.shape) > 0.1, {a}, {a} ** 2)",
    "lax.clamp(-jnp.abs(fit({b}, {a}.shape)), {a}, jnp.abs(fit({b}, {a}.shape)))",
)  # fmt: skip
# Of an axis x; n is its length.
_AXIS = (
    "jnp.roll({a}, {k}, axis={x})", "jnp.flip({a}, {x})", "jnp.cumsum({a}, axis={x})",
    "lax.cumsum({a}, {x}, reverse=True)", "lax.cumprod({a}, {x}, reverse=True)",
    "lax.cummax({a}, {x})", "lax.cumlogsumexp({a}, {x}, reverse=True)", "jnp.sort({a}, axis={x})",
    "jax.nn.softmax({a}, axis={x})", "jax.nn.logsumexp({a}, axis={x}, keepdims=True) * {a}",
    "{a} - {a}.mean({x}, keepdims=True)", "{a} / jnp.sqrt(1 + {a}.var({x}, keepdims=True))",
    "{a}.max({x}, keepdims=True) - {a}", "jnp.prod({a}, axis={x})", "{a}.sum({x})",
    "jnp.take_along_axis({a}, jnp.argsort({a}, axis={x}), axis={x})",
    "jnp.take_along_axis({a}, jnp.argmax({a}, axis={x}, keepdims=True), axis={x}) * {a}",
    "jnp.moveaxis(lax.top_k(jnp.moveaxis({a}, {x}, -1), 2)[0], -1, {x})",
    "lax.slice_in_dim({a}, {k} % {n}, {n}, 2, axis={x})", "jnp.repeat({a}, 2, axis={x})",
    "jnp.stack(jnp.unstack({a}, axis={x})[::-1], axis={x})", "jnp.diff({a}, axis={x})",
    "jnp.concatenate(jnp.split({a}, [{k} % {n}], axis={x})[::-1], axis={x})",
    "jnp.fft.rfft({a}, axis={x}).real", "jnp.fft.fft({a}, axis={x}).imag + {a}",
    "lax.associative_scan(lambda p, q: p * q + q, {a}, axis={x})",
    "lax.dynamic_slice_in_dim({a}, {T}, {m}, axis={x})",
    "lax.dynamic_slice_in_dim({a}, jnp.argmax(jnp.array([0.0, 1.0])), {m}, axis={x})",
    "lax.dynamic_update_slice_in_dim({a}, jnp.sin(lax.slice_in_dim({a}, 0, {m}, axis={x})), {T}, "
    "axis={x})",
    "jax.vmap(lambda r: lax.dynamic_slice_in_dim(r, jnp.argmax(r.ravel()) % 3, {m}, axis={x} - 1)"
    ")({a})",
    "jnp.take({a}, {I}, axis={x}, mode='wrap')", "jnp.take({a}, {I}, axis={x}, mode='clip')",
    "jnp.take({a}, {I}, axis={x}, mode='fill', fill_value=0.5)",
    "jax.jit(lambda h: jnp.take(h, {I}, axis={x}, mode='wrap') * 2)({a})",
    "jax.checkpoint(jax.jit(lambda h: jnp.sin(jnp.take(h, {I}, axis={x}, mode='clip'))))({a})",
    "jnp.moveaxis(jax.jit(lambda h: jnp.where({M}, h, jnp.roll(h, 1, -1)))(jnp.moveaxis({a}, {x}, "
    "-1)), -1, {x})",
    "jnp.moveaxis(jnp.moveaxis({a}, {x}, 0).at[{I}].add(jnp.sin(jnp.moveaxis({a}, {x}, 0)[:{m}]), "
    "mode='drop'), 0, {x})",
    "jnp.moveaxis(jnp.moveaxis({a}, {x}, 0).at[{I}].set(jnp.sin(jnp.moveaxis({a}, {x}, 0)[:{m}]), "
    "mode='clip'), 0, {x})",
    "jnp.moveaxis(jnp.moveaxis({a}, {x}, 0).at[:{m}].multiply(jnp.sin(jnp.moveaxis({a}, {x}, 0)"
    "[:{m}]), unique_indices=True), 0, {x})",
    "jnp.moveaxis(jnp.moveaxis({a}, {x}, 0).at[{I}].max(jnp.sin(jnp.moveaxis({a}, {x}, 0)[:{m}])),"
    " 0, {x})",
    "jnp.moveaxis(jax.ops.segment_sum(jnp.moveaxis({a}, {x}, 0), {N}, {m}), 0, {x})",
    "jnp.moveaxis(lax.scan(lambda c, r: (0.5 * c + r, jnp.sin(c) * r), jnp.moveaxis({a}, {x}, 0)"
    "[0], jnp.moveaxis({a}, {x}, 0), reverse={r})[1], 0, {x})",
    "jnp.moveaxis(lax.scan(lambda c, i: (c.at[i].add(jnp.sin(c[i - 1])), None), "
    "jnp.moveaxis({a}, {x}, 0), {I})[0], 0, {x})",
    "lax.scan(lambda c, k: (jnp.where(k, jnp.roll(c, 1, {x}), jnp.sin(c)), None), {a}, {B})[0]",
    "lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + jnp.roll(c, i, {x}), {a})",
    "jnp.where(jnp.arange({n}) < {m}, jnp.moveaxis({a}, {x}, -1), 0)",
    "jnp.moveaxis({a}, {x}, -1) * jax.nn.one_hot({I}, {n}).sum(0)",
    "jnp.moveaxis({a}, {x}, -1) @ jax.nn.one_hot({N}, {m})",
    "lax.switch({S}, [lambda h: h, lambda h: jnp.flip(h, {x}) * h, jnp.sin], {a})",
    "jnp.moveaxis({a}, {x}, -1) @ {W}", "jnp.moveaxis({a}, {x}, -1) @ {V} @ {V}.T",
    "jnp.tanh(jnp.moveaxis({a}, {x}, -1) @ {V}) @ {V}",
    "lax.dot_general({a}, {V}, ((({x},), (1,)), ((), ())))",
    "jnp.moveaxis(jnp.linalg.solve({V} @ {V}.T + jnp.eye({n}), jnp.moveaxis({a}, {x}, 0).reshape("
    "{n}, -1)).reshape(jnp.moveaxis({a}, {x}, 0).shape), 0, {x})",
    "jnp.where(jnp.expand_dims({M}, tuple(range(1, {a}.ndim - {x}))), {a}, {a} ** 2)",
    "lax.reduce_window({a}, -jnp.inf, lax.max, {ones_but_2}, {ones}, {pads}, window_dilation="
    "{ones_but_2})",
    "lax.reduce_window({a}, 0.0, lax.add, {ones_but_2}, {ones_but_2}, {pads}, base_dilation="
    "{ones_but_2})",
    "lax.reduce_window({a}, 0.0, lax.add, {ones_but_2}, {ones}, 'SAME')",
    "lax.pad({a}, 0.3, {config})", "jnp.pad({a}, {sides}, mode='{mode}')",
    "lax.rev({a}, ({x},)) * {a}", "jnp.tile({a}, {ones_but_2})",
    "lax.broadcast_in_dim({a}, {a}.shape[:{x}] + (2,) + {a}.shape[{x}:], "
    "tuple(i + (i >= {x}) for i in range({a}.ndim)))",
)  # fmt: skip
_MODES = ("wrap", "reflect", "edge", "symmetric")


def _unary(writer: Any, a: str, b: str) -> str:
    del b
    return writer.rng.choice(_UNARY).format(a=a)


def _binary(writer: Any, a: str, b: str) -> str | None:
    x = writer.rng.randint(1, max(len(writer.shape(a)), 1))
    template = writer.rng.choice(_BINARY)
    if "swapaxes" in template and len(writer.shape(a)) < 2:
        return None  # it would multiply examples by each other
    return template.format(a=a, b=b, x=x)


def _axis(writer: Any, a: str, b: str) -> str | None:
    del b
    rng, shape = writer.rng, writer.shape(a)
    if not shape:
        return None
    x = rng.randint(1, len(shape))
    n, rank = shape[x - 1], len(shape) + 1
    m = rng.randint(1, n)
    template = rng.choice(_AXIS)
    low, high, inner = rng.randint(-1, 2), rng.randint(-1, 2), rng.randint(0, 1)

    def axes(value: Any, other: Any) -> str:
        return str(tuple(other if axis == x else value for axis in range(rank)))

    values: dict[str, Any] = {
        "a": a, "x": x, "n": n, "m": m, "k": rng.randint(1, n), "r": rng.choice((True, False)),
        "ones": axes(1, 1), "ones_but_2": axes(1, 2), "mode": rng.choice(_MODES),
        "pads": axes((0, 0), (rng.randint(0, 1), rng.randint(0, 1))),
        "config": axes((0, 0, 0), (low, high, inner)),
        "sides": axes((0, 0), (rng.randint(0, 1), rng.randint(0, 1))),
    }  # fmt: skip
    # Tables and weights are drawn only where they are used.
    made = {
        "T": lambda: writer.table((), -1, n + 1), "I": lambda: writer.table((m,), -n, n + 1),
        "N": lambda: writer.table((n,), 0, m), "B": lambda: writer.table((3,)),
        "S": lambda: writer.table((), -1, 4), "M": lambda: writer.table((n,)),
        "W": lambda: writer.weight(n, rng.randint(1, 4)), "V": lambda: writer.weight(n, n),
    }  # fmt: skip
    values |= {name: make() for name, make in made.items() if "{" + name + "}" in template}
    return template.format(**values)


def _reshape(writer: Any, a: str, b: str) -> str | None:
    del b
    rng, shape = writer.rng, writer.shape(a)
    order = list(range(1, len(shape) + 1))
    rng.shuffle(order)
    size = 1
    for n in shape:
        size *= n
    first = rng.choice([d for d in range(1, size + 1) if size % d == 0])
    target = rng.choice(((2, size), (2, first, size // first), (2, 1, size), (2, *shape)))
    return rng.choice(
        (
            f"{a}.reshape({target})",
            f"lax.reshape({a}, {target}, dimensions={(0, *order)})",
            f"jnp.transpose({a}, {(0, *order)})",
            f"jnp.expand_dims({a}, {rng.randint(1, len(shape) + 1)})",
            f"jnp.squeeze({a}[..., :1], -1)",
        )
    ).replace("(2,", f"({a}.shape[0],")


def _conv(writer: Any, a: str, b: str) -> str | None:
    del b
    rng, shape = writer.rng, writer.shape(a)
    if len(shape) not in (2, 3):
        return None
    dims = len(shape) - 1
    first = rng.random() < 0.5
    channels, sizes = (shape[0], shape[1:]) if first else (shape[-1], shape[:-1])
    groups = rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
    out = groups * rng.randint(1, 2)
    taps = tuple(rng.randint(1, 3) for _ in range(dims))
    into = channels // groups
    kernel = writer.weight(*((out, into, *taps) if first else (*taps, into, out)))
    spec = {(1, True): "NCW", (1, False): "NWC", (2, True): "NCHW", (2, False): "NHWC"}
    spatial = tuple((rng.randint(-1, 2), rng.randint(0, 2)) for _ in range(dims))
    options = [f"padding={rng.choice((repr('SAME'), repr('SAME'), repr('VALID'), spatial))}"]
    if groups > 1:
        options.append(f"feature_group_count={groups}")
    for name, chance in (("window_strides", 0.3), ("lhs_dilation", 0.2), ("rhs_dilation", 0.3)):
        if rng.random() < chance:
            options.append(f"{name}={tuple(rng.randint(1, 2) for _ in range(dims))}")
    if rng.random() < 0.15:
        options.append("precision='highest'")
    del sizes
    return f"conv({a}, {kernel}, '{spec[dims, first]}', {', '.join(options)})"


def _gate(writer: Any, a: str, b: str) -> str | None:
    """Layers as in a network: matrices or convolutions with elementwise functions between."""
    rng, shape = writer.rng, writer.shape(a)
    if not shape:
        return None
    n = shape[-1]
    first, second = writer.weight(n, 3), writer.weight(3, n)
    act = rng.choice(("jnp.tanh", "jax.nn.relu", "jnp.sin", "jax.nn.softplus"))
    gate = rng.choice(("", f" * fit({b}, {a}.shape)", f" + {a}"))
    return f"({act}({a} @ {first}) @ {second}){gate}"


# Each kind as often as its variety deserves.
OPERATIONS: tuple[Callable[[Any, str, str], str | None], ...] = (
    *(_axis,) * 9, *(_unary,) * 4, *(_binary,) * 3, *(_conv,) * 4, *(_reshape,) * 2,
    *(_gate,) * 3,
)  # fmt: skip
