"""The registry of batched functions that every quantity is held against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from local_functions import (
    attention,
    average_pool,
    conv,
    conv_net,
    kernel,
    max_pool,
    reverse_only,
    scanned_rows,
    sorted_rows,
    unet,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A function of a batch, the shape of its input, and what it can do."""

    name: str
    fn: Callable[[Any], Any]
    shape: Any
    forward: bool = True
    reverse: bool = True

    def inputs(self, num_examples=3, dtype=None, seed=0):
        """Random inputs, one array or a pytree of them."""
        rng = np.random.default_rng(len(self.name) + 100 * seed)
        dtype = dtype or jnp.zeros(()).dtype
        return jax.tree.map(
            lambda s: jnp.asarray(rng.normal(size=(num_examples, *s)), dtype),
            self.shape,
            is_leaf=lambda s: isinstance(s, tuple),
        )

    def dense(self, xs):
        """`[N, M, n]` as a float64 array, by JAX's Jacobians of single examples."""
        return dense_jacobians(self.fn, xs, jax.jacfwd if self.forward else jax.jacrev)


def dense_jacobians(fn, xs, transform):
    """`[N, M, n]` as a float64 array, each example apart."""
    jac = jax.jit(
        transform(lambda x: jax.tree.map(lambda y: y[0], fn(jax.tree.map(lambda a: a[None], x))))
    )
    num_examples = jax.tree.leaves(xs)[0].shape[0]
    examples = [jax.tree.map(lambda a, i=i: a[i], xs) for i in range(num_examples)]
    return np.stack([_matrix(jac(x), fn, x) for x in examples])


def _matrix(jac, fn, x):
    outputs = jax.eval_shape(fn, jax.tree.map(lambda a: a[None], x))
    rows = []
    tree = jax.tree.structure(outputs)
    for block, like in zip(tree.flatten_up_to(jac), jax.tree.leaves(outputs), strict=True):
        size = int(np.prod(like.shape[1:]))
        parts = [
            np.asarray(part, np.float64).reshape(size, int(np.prod(leaf.shape)))
            for part, leaf in zip(jax.tree.leaves(block), jax.tree.leaves(x), strict=True)
        ]
        rows.append(np.concatenate(parts, axis=1))
    return np.concatenate(rows, axis=0)


def _weights(m, n, seed):
    return np.random.default_rng(seed).normal(size=(m, n)) / np.sqrt(m)


MATRIX = _weights(6, 6, 0)
TALL, WIDE = _weights(4, 7, 1), _weights(7, 4, 2)


def _mlp(xs):
    return jnp.tanh(jax.nn.softplus(xs @ jnp.asarray(TALL, xs.dtype)) @ _like(WIDE, xs))


def _like(weights, xs):
    return jnp.asarray(weights, xs.dtype)


@jax.custom_vjp
def _custom(xs):
    return jnp.sin(xs) * xs


_custom.defvjp(
    lambda xs: (jnp.sin(xs) * xs, xs), lambda xs, u: ((jnp.cos(xs) * xs + jnp.sin(xs)) * u,)
)


def _loop(xs):
    return jax.lax.while_loop(
        lambda s: s[0] < 2, lambda s: (s[0] + 1, jnp.sin(s[1]) + jnp.roll(s[1], 1, 1)), (0, xs)
    )[1]


def _loop_to_fewer(xs):
    return jax.lax.while_loop(
        lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] + jnp.tanh(xs[:, :2])), (0, xs[:, 2:4])
    )[1]


def _batch_norm(xs):
    """At the running statistics, as in evaluation."""
    width = xs.shape[-1]
    mean, var = jnp.linspace(-0.2, 0.3, width), jnp.linspace(0.5, 2, width)
    return ((xs - mean) / jnp.sqrt(var + 1e-5) * 1.3 + 0.2).astype(xs.dtype)


def _batch_norm_net(xs):
    h = jax.nn.relu(_batch_norm(conv(xs, 4)))
    return xs + conv(jax.nn.relu(_batch_norm(h)), xs.shape[-1], seed=1)


def _conv_any(xs, shape, layout, strides, padding="SAME"):
    return jax.lax.conv_general_dilated(
        xs, kernel(shape, dtype=xs.dtype), strides, padding, dimension_numbers=layout
    )


def _up(xs):
    return conv(jnp.sin(conv(xs, 3, stride=2)), 2, padding=[(1, 2), (1, 2)], up=(2, 2))


CASES = [
    Case("linear", lambda xs: xs @ _like(MATRIX, xs).T, (6,)),
    Case("tall", lambda xs: xs @ _like(TALL, xs), (4,)),
    Case("wide", lambda xs: xs @ _like(WIDE, xs), (7,)),
    Case("rank one", lambda xs: xs.sum(1, keepdims=True) * _like([1.0, 2.0, 3.0], xs), (3,)),
    Case("constant", lambda xs: 0 * xs + 1, (3,)),
    Case("MLP", _mlp, (4,)),
    Case("elementwise", jnp.sin, (5,)),
    Case("scalar an example", lambda xs: jnp.sum(jnp.cos(xs) * xs, axis=1), (4,)),
    Case("scalar of an image", lambda xs: (jnp.tanh(conv(xs, 2)) ** 2).sum((1, 2, 3)), (4, 4, 1)),
    Case("scalar in, scalar out", jnp.tanh, ()),
    Case("convolutions", lambda xs: conv_net(xs, depth=2), (4, 4, 3)),
    Case("strided convolution", lambda xs: conv(xs, 2, stride=2), (4, 5, 2)),
    Case("VALID convolution", lambda xs: jnp.sin(conv(xs, 3, size=2, padding="VALID")), (4, 4, 2)),
    Case("transposed convolution", _up, (4, 4, 2)),
    Case("grouped, dilated", lambda xs: conv(xs, 4, groups=2, dilation=2), (4, 4, 2)),
    Case("depthwise", lambda xs: conv(jnp.sin(xs), 2, groups=2), (4, 4, 2)),
    Case("1-D, NWC", lambda xs: _conv_any(xs, (3, 2, 2), ("NWC", "WIO", "NWC"), (1,)), (7, 2)),
    Case("2-D, NCHW", lambda xs: _conv_any(
        xs, (3, 2, 3, 3), ("NCHW", "OIHW", "NHWC"), (2, 1)), (2, 4, 4)),
    Case("3-D, NDHWC", lambda xs: _conv_any(
        xs, (2, 2, 2, 1, 1), ("NDHWC", "DHWIO", "NDHWC"), (1, 1, 1)), (3, 3, 3, 1)),
    Case("pooling", lambda xs: average_pool(max_pool(jnp.tanh(conv(xs, 2)))), (4, 4, 2)),
    Case("U-Net", unet, (4, 4, 1)),
    Case("attention", attention, (2, 3, 2)),
    Case("sorting", sorted_rows, (4, 2, 1)),
    Case("scan over rows", scanned_rows, (4, 2, 2)),
    Case("BatchNorm, running statistics", lambda xs: _batch_norm(xs) @ _like(MATRIX, xs), (6,)),
    Case("BatchNorm, convolutional", _batch_norm_net, (4, 4, 2)),
    Case("custom VJP", _custom, (5,), forward=False),
    Case("custom VJP, convolution", reverse_only, (4, 4, 3), forward=False),
    Case("while_loop", _loop, (5,), reverse=False),
    Case("while_loop, fewer outputs", _loop_to_fewer, (5,), reverse=False),
    Case("no outputs", lambda xs: xs[:, :0], (4,)),
    Case("no inputs", lambda xs: xs.sum(1)[:, None] * jnp.ones((1, 2), xs.dtype), (0,)),
    Case(
        "pytrees",
        lambda xs: {"p": jnp.sin(xs["p"]) * xs["q"][:, :1], "q": xs["p"].sum(1)[:, None] * xs["q"]},
        {"p": (3,), "q": (2,)},
    ),
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}
