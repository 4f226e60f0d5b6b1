"""Random scalar fields: a seed is a program of a few operations drawn from all forms."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_UNARY = (
    jnp.tanh,
    jnp.sin,
    jax.nn.softplus,
    jax.nn.gelu,
    jax.nn.relu,
    lambda h: h**2 / (1 + h**2),
    lambda h: 0.5 * h - 1,
    lambda h: jnp.where(h > 0.1, h**2, jnp.sin(h)),
    lambda h: jnp.minimum(h, 0.3) * h,
)


def random_field(seed):
    """A field `[N, *in] -> [N]` and the shape of an example."""
    rng = np.random.default_rng(seed)
    shape = ((4,), (3, 2), (2, 3, 2), (5, 1), (6,))[rng.integers(5)]
    plan = rng.integers(0, 2**31, size=rng.integers(3, 9))

    def field(xs, w):
        values = [xs]
        for step in plan:
            values.append(_step(np.random.default_rng(step), values, w))
        last = [value.reshape(value.shape[0], -1) for value in values[-2:]]
        return sum(jnp.sin(value).sum(1) * (1 + 0.3 * jnp.tanh(value).mean(1)) for value in last)

    return field, shape


def _step(rng, values, w):
    h = values[rng.integers(max(0, len(values) - 3), len(values))]
    if h.size // h.shape[0] > 60:
        h = h.reshape(h.shape[0], -1)[:, :12]
    return _OPERATIONS[rng.integers(len(_OPERATIONS))](rng, h, values, w)


def _axis(rng, h):
    return int(rng.integers(1, h.ndim)) if h.ndim > 1 else 0


def _dense(rng, h, values, w):
    kernel = jnp.asarray(rng.normal(size=(h.shape[-1], rng.integers(1, 5))))
    return jnp.tanh(h @ kernel * w / h.shape[-1])


def _unary(rng, h, values, w):
    return _UNARY[rng.integers(len(_UNARY))](h)


def _binary(rng, h, values, w):
    same = [v for v in values if v.shape == h.shape]
    other = same[rng.integers(len(same))] if same else jnp.cos(h)
    return (
        h * jnp.cos(other),
        h + 0.5 * other,
        h / (2 + jnp.sin(other)),
        jnp.maximum(h, other**2),
    )[rng.integers(4)]


def _reduce(rng, h, values, w):
    axis = _axis(rng, h)
    kind = (jnp.mean, jnp.max, jnp.sum, jax.nn.logsumexp)[rng.integers(4)]
    return h - kind(h, axis=axis, keepdims=True) * w


def _softmax(rng, h, values, w):
    return jax.nn.softmax(h * w, axis=_axis(rng, h)) * h


def _outer(rng, h, values, w):
    flat = h.reshape(h.shape[0], -1)[:, :5]
    other = values[rng.integers(len(values))]
    other = other.reshape(other.shape[0], -1)[:, :4]
    return jnp.tanh(flat[:, :, None] * other[:, None])


def _attend(rng, h, values, w):
    rows = h.reshape(h.shape[0], -1, h.shape[-1])
    scores = jnp.einsum("ntc,nsc->nts", rows, jnp.sin(rows) * w)
    return jnp.einsum("nts,nsc->ntc", jax.nn.softmax(scores, axis=-1), rows).reshape(h.shape)


def _move(rng, h, values, w):
    axis = _axis(rng, h)
    kind = rng.integers(8)
    if kind == 0:
        return jnp.flip(h, axis)
    if kind == 1:
        return h.reshape(h.shape[0], -1)
    if kind == 2:
        return jnp.swapaxes(h, axis, -1)
    if kind == 3:
        return jnp.concatenate([h, jnp.sin(h), jnp.ones_like(h)], axis)
    if kind == 4:
        return jnp.roll(h, 1, axis)
    if kind == 5:
        return jnp.take(h, jnp.asarray(rng.integers(0, h.shape[axis], size=3)), axis=axis)
    if kind == 6:
        return jnp.pad(h, [(0, 0)] + [(1, 0)] * (h.ndim - 1))
    return jnp.stack([h, h**2], axis).mean(axis)


def _window(rng, h, values, w):
    rows = h.reshape(h.shape[0], -1, h.shape[-1])
    taps = int(rng.integers(1, min(4, rows.shape[1] + 1)))
    kernel = jnp.asarray(rng.normal(size=(taps, rows.shape[2], 2)) / taps)
    strides = int(rng.integers(1, 3))
    kind = rng.integers(3)
    if kind == 0:
        padding = ("SAME", "VALID")[rng.integers(2)]
        return jnp.tanh(
            lax.conv_general_dilated(
                rows, kernel * w, (strides,), padding, dimension_numbers=("NWC", "WIO", "NWC")
            )
        )
    start, function = ((-jnp.inf, lax.max), (0.0, lax.add))[kind - 1]
    return lax.reduce_window(rows, start, function, (1, taps, 1), (1, strides, 1), "SAME")


def _accumulate(rng, h, values, w):
    axis = _axis(rng, h)
    return (jnp.cumsum(h, axis) * 0.3, jnp.sort(h, axis), lax.cummax(h, axis=axis))[rng.integers(3)]


def _loop(rng, h, values, w):
    kernel = jnp.asarray(rng.normal(size=(2, h.shape[-1], h.shape[-1]))) / h.shape[-1]
    return lax.scan(lambda c, k: (jnp.tanh(c @ k * w) + h, None), h, kernel)[0]


_OPERATIONS = (
    _dense, _unary, _unary, _binary, _reduce, _softmax, _outer, _attend, _move, _move, _window,
    _accumulate, _loop,
)  # fmt: skip
