"""Scalar fields `[N, *in] -> [N]` over the whole table of forms, each with a weight to train."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def weights(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0]))


def layer_norm(xs):
    centred = xs - xs.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-3)


def group_norm(xs):
    n, h, w, c = xs.shape
    groups = xs.reshape(n, h, w, 2, c // 2)
    mean = groups.mean((1, 2, 4), keepdims=True)
    spread = ((groups - mean) ** 2).mean((1, 2, 4), keepdims=True)
    return ((groups - mean) / jnp.sqrt(spread + 1e-3)).reshape(xs.shape)


def block(xs, w, heads=1):
    n, t, c = xs.shape
    h = layer_norm(xs)
    q, k, v = ((h @ weights(c, c, seed=s) * w).reshape(n, t, heads, c // heads) for s in (1, 2, 3))
    p = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k), axis=-1)
    xs = xs + jnp.einsum("nhts,nshd->nthd", p, v).reshape(n, t, c)
    return xs + jax.nn.gelu(layer_norm(xs) @ weights(c, 2 * c, seed=4)) @ weights(2 * c, c, seed=5)


def conv(xs, kernel, strides=1, padding="SAME", **options):
    rank = xs.ndim - 2
    names = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}[rank]
    return lax.conv_general_dilated(
        xs, kernel, (strides,) * rank, padding, dimension_numbers=names, **options
    )


def pooled(xs, start, function, strides=2):
    return lax.reduce_window(xs, start, function, (1, 2, 2, 1), (1, strides, strides, 1), "VALID")


def total(ys):
    return ys.reshape(ys.shape[0], -1).sum(1)


@jax.custom_jvp
def turned(xs):
    return jnp.roll(xs, 1, -1)


@turned.defjvp
def _(primals, tangents):
    return turned(*primals), jnp.roll(tangents[0], 1, -1) + primals[0] * tangents[0]


@jax.custom_jvp
def averaged(xs):
    return 1.0 * xs


@averaged.defjvp
def _(primals, tangents):
    mean = (primals[0] * tangents[0]).mean(-1, keepdims=True)
    return averaged(*primals), jnp.broadcast_to(mean, primals[0].shape)


@jax.custom_jvp
def leaning(x):
    return jnp.tanh(x)


@leaning.defjvp
def _(primals, tangents):
    y = leaning(*primals)
    return y, (1 - jnp.roll(y, 1, -1) * averaged(primals[0]) * primals[0][..., ::-1]) * tangents[0]


@jax.custom_jvp
def straight(x):
    return jnp.round(x)


straight.defjvp(lambda primals, tangents: (straight(*primals), tangents[0] * jnp.cos(primals[0])))


@jax.custom_jvp
def scaled_softmax(x):
    return jax.nn.softmax(x, axis=-1)


@scaled_softmax.defjvp
def _(primals, tangents):
    y = scaled_softmax(*primals)
    return y, 2 * y * (tangents[0] - (y * tangents[0]).sum(-1, keepdims=True))


def unrolled(xs, w):
    def step(carry, kernel):
        state, count = carry
        state = jnp.tanh(state @ (kernel * w)) + xs
        return (state, count + 1), state.sum(-1)

    (state, _), sums = lax.scan(step, (xs, 0), weights(3, 4, 4))
    return total(jnp.sin(state)) + (sums**2).sum(0)


def recurrent(xs, w):
    def step(state, token):
        state = jnp.tanh(state @ weights(4, 4) + token * w)
        return state, state * token

    state, outs = lax.scan(step, jnp.zeros_like(xs[:, 0]), jnp.swapaxes(xs, 0, 1), reverse=True)
    return total(state**2) + (outs**3).sum((0, 2))


def forgetful(xs, w):
    """What a step asks for is less than what it computes."""

    def step(carry, _):
        state, kept = carry
        state = jnp.where(jnp.arange(4) < 1, jnp.roll(state, 1, axis=1), state)
        kept = jnp.where(jnp.arange(4) < 0, state, 1.0) * kept
        return (jnp.sin(state * w), kept), (0.0 * state, kept)

    (state, kept), outs = lax.scan(step, (xs, xs), length=3)
    return total(state * kept) + sum(out.sum((0, 2)) for out in outs)


# name: (field(xs, w), shape of an example)
PROGRAMS = {
    "constant": (lambda xs, w: jnp.full(xs.shape[:1], 3.0) * w, (4,)),
    "linear": (lambda xs, w: w * xs.sum(1), (4,)),
    "one number": (lambda xs, w: jnp.sin(w * xs) * xs, ()),
    "dense": (
        lambda xs, w: total(jnp.tanh(jnp.tanh(xs @ weights(4, 5) * w) @ weights(5, 3))),
        (4,),
    ),
    "activations": (
        lambda xs, w: total(
            jax.nn.gelu(w * xs)
            + jax.nn.softplus(xs)
            + jax.nn.silu(xs)
            + jax.nn.relu(xs) ** 3
            + jax.nn.sigmoid(xs)
            + jax.nn.elu(xs)
            + jax.nn.log_sigmoid(xs)
            + lax.erf(xs)
        ),
        (4,),
    ),
    "kinks": (
        lambda xs, w: (
            total(jnp.where(xs > 0, xs**2, w * xs) * jnp.abs(xs) * jnp.clip(xs, -1, 1))
            * jnp.maximum(xs[:, 0], xs[:, 1])
        ),
        (4,),
    ),
    "quotients": (
        lambda xs, w: (
            total(w * xs / (1 + xs**2)) / (2 + jnp.cos(xs).sum(1)) + total(2.0 / (3 + xs))
        ),
        (4,),
    ),
    "powers": (
        lambda xs, w: total(
            (1.5 + jnp.sin(xs)) ** (w + xs) + jnp.arctan2(xs, 1 + xs[:, ::-1] ** 2)
        ),
        (4,),
    ),
    "product": (lambda xs, w: jnp.prod(w + jnp.cos(xs), axis=1), (4,)),
    "cumulated": (
        lambda xs, w: total(jnp.cumsum(w * xs, 1) ** 3 + jnp.cumprod(xs, 1) + lax.cummax(xs**2, 1)),
        (4,),
    ),
    "norms": (
        lambda xs, w: (
            jnp.linalg.norm(xs * w, axis=1) + jax.nn.logsumexp(xs @ weights(4, 3), axis=1)
        ),
        (4,),
    ),
    "selected": (
        lambda xs, w: (
            (xs**2 @ weights(4, 5)).max(1) ** 2 * w
            + jnp.sort(jnp.tanh(xs), 1) @ weights(4)
            + (lax.top_k(xs, 2)[0] ** 2).sum(1)
        ),
        (4,),
    ),
    "indexed": (
        lambda xs, w: (
            total(jnp.sin(xs[:, np.array([0, 2, 2])]) * xs[:, 1:])
            + total(jnp.take(w * xs**2, jnp.array([3, 1]), axis=1) ** 2)
            + lax.dynamic_slice_in_dim(xs**3, jnp.argmax(w) + 1, 2, 1).sum(1)
        ),
        (4,),
    ),
    "chosen by value": (
        lambda xs, w: w * jnp.take_along_axis(xs**3, jnp.argmax(xs, 1)[:, None], 1)[:, 0] ** 2,
        (4,),
    ),
    "scattered": (
        lambda xs, w: (
            total((xs**2).at[:, 1:3].set(w * xs[:, :2] ** 3) ** 2)
            + total(jnp.zeros((xs.shape[0], 3)).at[:, np.array([0, 2, 0, 1])].add(xs**2) ** 2)
            + total(lax.dynamic_update_slice(jnp.ones((xs.shape[0], 6)), xs**2, (0, 1)) ** 2)
        ),
        (4,),
    ),
    "moved": (
        lambda xs, w: (
            total(
                jnp.sin(jnp.tanh(xs).transpose(2, 0, 1).reshape(2, xs.shape[0], 3)[:, :, ::-1])
                .transpose(1, 0, 2)
                .reshape(xs.shape[0], 6)[:, ::2]
                @ weights(3, 3)
            )
            * w
            + total(jnp.pad(xs, ((0, 0), (1, 0), (0, 1)))[:, :-1, 1:] * xs)
        ),
        (3, 2),
    ),
    "joined": (
        lambda xs, w: (
            jnp.prod(
                jnp.concatenate([jnp.sin(xs), xs[:, ::-1] * xs, jnp.ones_like(xs)], 1)
                @ weights(12, 3),
                1,
            )
            + total(jnp.stack([xs, w * xs**2], 1).sum(1) ** 2)
            + total(jnp.tile(xs, (1, 2)) ** 3)
            + total(jnp.split(xs**2, 2, axis=1)[1] ** 2)
        ),
        (4,),
    ),
    "repeated and summed": (
        lambda xs, w: total(
            jnp.sin(jnp.broadcast_to(xs[:, None], (xs.shape[0], 3, 4)).sum(1) * w)
            + jnp.broadcast_to(xs[..., None], (*xs.shape, 2)).sum((1, 2))[:, None] ** 2
        ),
        (4,),
    ),
    "pairs": (
        lambda xs, w: w * (1 / (1 + ((xs[:, :, None] - xs[:, None]) ** 2).sum(-1))).sum((1, 2)),
        (3, 2),
    ),
    "layer norm": (lambda xs, w: total(jnp.tanh(layer_norm(xs * w) @ weights(4, 5)) ** 2), (3, 4)),
    "attention": (lambda xs, w: total(jnp.sin(block(xs, w))), (3, 4)),
    "heads": (lambda xs, w: total(block(xs, w, heads=2) ** 2), (3, 4)),
    "convolutions": (
        lambda xs, w: total(
            jnp.tanh(conv(jnp.tanh(conv(xs * w, weights(3, 3, 1, 2))), weights(3, 3, 2, 2)))
        ),
        (7, 6, 1),
    ),
    "strided, dilated, grouped": (
        lambda xs, w: total(
            conv(
                jnp.tanh(
                    conv(
                        jnp.tanh(conv(xs * w, weights(3, 3, 2, 2), 2)),
                        weights(2, 2, 1, 4),
                        feature_group_count=2,
                        rhs_dilation=(2, 2),
                        padding="VALID",
                    )
                ),
                weights(2, 2, 4, 1),
            )
            ** 2
        ),
        (9, 8, 2),
    ),
    "up and down": (
        lambda xs, w: total(
            xs
            * jnp.tanh(
                conv(
                    jnp.tanh(conv(xs, weights(3, 1, 2), 2) * w),
                    weights(2, 2, 1),
                    padding=((1, 1),),
                    lhs_dilation=(2,),
                )
            )
        ),
        (8, 1),
    ),
    "periodic": (
        lambda xs, w: total(
            jnp.tanh(
                conv(
                    jnp.tanh(
                        conv(
                            jnp.pad(xs, ((0, 0), (1, 1), (0, 0)), mode="wrap"),
                            weights(3, 1, 2),
                            padding="VALID",
                        )
                    )
                    * w,
                    weights(3, 2, 1),
                )
            )
        ),
        (8, 1),
    ),
    "pooling": (
        lambda xs, w: (
            total(pooled(jnp.tanh(xs * w), -jnp.inf, lax.max) ** 2)
            + total(jnp.sin(pooled(jnp.tanh(xs), 0.0, lax.add, 1)))
        ),
        (5, 4, 1),
    ),
    "group norm": (
        lambda xs, w: total(jnp.tanh(group_norm(conv(xs, weights(3, 3, 1, 4)))) ** 2 * w),
        (4, 4, 1),
    ),
    "kernel that depends": (
        lambda xs, w: jax.vmap(lambda x: (conv(x[None], jnp.tanh(x[:3, :, None] * w)) ** 2).sum())(
            xs
        ),
        (5, 1),
    ),
    "scan over layers": (unrolled, (4,)),
    "scan of tokens": (recurrent, (3, 4)),
    "scan that keeps tokens": (
        lambda xs, w: total(
            lax.scan(lambda h, k: (jnp.tanh(h @ k * w), None), xs, weights(2, 4, 4))[0] ** 2
        ),
        (3, 4),
    ),
    "loop": (
        lambda xs, w: total(
            lax.fori_loop(0, 3, lambda i, h: jnp.sin(h @ weights(4, 4) * w), xs) ** 2
        ),
        (4,),
    ),
    "branch": (
        lambda xs, w: (
            total(lax.cond(w > 0, lambda x: jnp.sin(x) ** 2, lambda x: jnp.cos(x), xs)) ** 2
        ),
        (4,),
    ),
    "checkpoint": (
        lambda xs, w: total(jax.checkpoint(lambda x: jnp.tanh(x @ weights(4, 5) * w))(xs) ** 3),
        (4,),
    ),
    "rules that see more": (
        lambda xs, w: total(jnp.tanh(turned(jnp.sin(xs))) * w) + total(averaged(xs) ** 2),
        (3, 4),
    ),
    "whole numbers in between": (
        lambda xs, w: total(
            ((3 * xs).astype(jnp.int32).astype(xs.dtype) @ weights(4, 3)) ** 2 * w
            + (xs.astype(bool).astype(xs.dtype) * xs) @ weights(4, 3)
        ),
        (4,),
    ),
    "filled in": (
        lambda xs, w: (
            total(
                jnp.sin(w * xs.at[:, jnp.asarray([7, 1, 9, 2])].get(mode="fill", fill_value=1.0))
                * xs
            )
            + jnp.nanmax(jnp.take(xs**2, jnp.asarray([1, 9]), axis=1), axis=1)
            + xs.at[:, jnp.asarray([0, 8])].get(mode="fill", fill_value=-jnp.inf).max(1) ** 3
        ),
        (4,),
    ),
    "values side by side": (
        lambda xs, w: total(
            jnp.prod(jnp.stack(lax.optimization_barrier((jnp.sin(xs), w * xs))), 0)
        ),
        (4,),
    ),
    "a rule with factors from elsewhere": (
        lambda xs, w: total(leaning(jnp.sin(xs) * w) ** 2 * xs),
        (3, 4),
    ),
    "a loop that sees less than it computes": (forgetful, (4,)),
    "random draws": (
        lambda xs, w: total(jnp.tanh(jax.random.gamma(jax.random.key(0), jax.nn.softplus(xs)) * w)),
        (2, 2),
    ),
    "rules of their own": (
        lambda xs, w: total(straight(xs) * w * xs) + total(scaled_softmax(xs) ** 2 * xs),
        (3, 4),
    ),
    "example by example": (
        jax.vmap(lambda x, w: jnp.sum(jnp.tanh(weights(5, 4) @ x * w) ** 3), (0, None)),
        (4,),
    ),
    "determinant": (
        jax.vmap(lambda x, w: jnp.linalg.slogdet(x @ x.T * w + jnp.eye(2))[1], (0, None)),
        (2, 3),
    ),
    "gradient inside": (
        jax.vmap(
            lambda x, w: jnp.sum(
                jax.grad(lambda x: jnp.sum(jnp.tanh(x @ weights(4, 3) * w)))(x) ** 2
            ),
            (0, None),
        ),
        (4,),
    ),
    "spectrum": (lambda xs, w: total(jnp.abs(jnp.fft.rfft(jnp.tanh(xs * w))) ** 3), (4,)),
    "image as vector": (
        lambda xs, w: total(jnp.tanh(conv(xs.reshape(-1, 5, 5, 1) * w, weights(3, 3, 1, 2)))),
        (25,),
    ),
    "tokens as rows": (
        lambda xs, w: total(
            jnp.tanh(jnp.tanh(xs.reshape(-1, 4) @ weights(4, 3) * w)).reshape(-1, 3, 3) ** 2
        ),
        (3, 4),
    ),
}
