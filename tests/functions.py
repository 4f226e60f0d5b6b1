"""The registry of batched functions that every quantity is held against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from local_functions import attention, average_pool, conv, conv_net, max_pool, unet


@dataclass(frozen=True)
class Case:
    """A function of a batch, the shape of its input, and what it can do."""

    name: str
    fn: Callable[[Any], Any]
    shape: Any
    forward: bool = True
    reverse: bool = True

    def inputs(self, num_examples=3, dtype=None):
        """Random inputs, one array or a pytree of them."""
        rng = np.random.default_rng(len(self.name))
        dtype = dtype or jnp.zeros(()).dtype
        return jax.tree.map(
            lambda s: jnp.asarray(rng.normal(size=(num_examples, *s)), dtype),
            self.shape,
            is_leaf=lambda s: isinstance(s, tuple),
        )

    def dense(self, xs):
        """`[N, M, n]` as a float64 array, by jacobians of single examples."""
        jac = (jax.jacfwd if self.forward else jax.jacrev)(
            lambda x: jax.tree.map(lambda y: y[0], self.fn(jax.tree.map(lambda a: a[None], x)))
        )
        num_examples = jax.tree.leaves(xs)[0].shape[0]
        examples = [jax.tree.map(lambda a, i=i: a[i], xs) for i in range(num_examples)]
        return np.stack([_matrix(jac(x), self.fn, x) for x in examples])


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


def _batch_norm_at_running_statistics(xs):
    return jax.nn.relu((xs - 0.1) / np.sqrt(0.7) * 1.3 + 0.2) @ _like(MATRIX, xs)


CASES = [
    Case("linear", lambda xs: xs @ _like(MATRIX, xs).T, (6,)),
    Case("tall", lambda xs: xs @ _like(TALL, xs), (4,)),
    Case("wide", lambda xs: xs @ _like(WIDE, xs), (7,)),
    Case("mlp", _mlp, (4,)),
    Case("elementwise", jnp.sin, (5,)),
    Case("scalar an example", lambda xs: jnp.sum(jnp.cos(xs) * xs, axis=1), (4,)),
    Case("scalar in, scalar out", jnp.tanh, ()),
    Case("convolutions", lambda xs: conv_net(xs, depth=2), (4, 4, 3)),
    Case("strided convolution", lambda xs: conv(xs, 2, stride=2), (4, 5, 2)),
    Case("grouped, dilated", lambda xs: conv(xs, 4, groups=2, dilation=2), (4, 4, 2)),
    Case("pooling", lambda xs: average_pool(max_pool(jnp.tanh(conv(xs, 2)))), (4, 4, 2)),
    Case("U-Net", unet, (4, 4, 1)),
    Case("attention", attention, (2, 3, 2)),
    Case("BatchNorm, running statistics", _batch_norm_at_running_statistics, (6,)),
    Case("custom VJP", _custom, (5,), forward=False),
    Case("while_loop", _loop, (5,), reverse=False),
    Case("no outputs", lambda xs: xs[:, :0], (4,)),
    Case("no inputs", lambda xs: xs.sum(1)[:, None] * jnp.ones((1, 2), xs.dtype), (0,)),
    Case(
        "pytrees",
        lambda xs: {"p": jnp.sin(xs["p"]) * xs["q"][:, :1], "q": xs["p"].sum(1)[:, None] * xs["q"]},
        {"p": (3,), "q": (2,)},
    ),
]
