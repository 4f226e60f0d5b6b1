"""Networks whose plans are known, and what the tests of plans share."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.nnx

RNG = np.random.default_rng(0)
IMAGES, VECTORS = jnp.ones((1, 8, 8, 2)), jnp.asarray(RNG.normal(size=(1, 6)), jnp.float32)


def weights(*shape):
    return jnp.asarray(RNG.normal(size=shape) / 3, jnp.float32)


def conv(xs, kernel, stride=1, padding="SAME", dilation=1):
    return jax.lax.conv_general_dilated(
        xs,
        kernel,
        (stride,) * 2,
        padding,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class NormedCNN(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.last = nnx.Conv(4, 2, (3, 3), rngs=rngs)

    def __call__(self, xs):
        return self.last(nnx.relu(self.norm(self.first(xs))))


class LayerNormed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.last = nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, xs):
        return self.last(nnx.gelu(self.norm(self.first(xs))))


QUERY, KEY, VALUE = weights(4, 4), weights(4, 4), weights(4, 4)
K1, K2, DOWN, UP = (
    weights(3, 3, 2, 2),
    weights(3, 3, 2, 2),
    weights(3, 3, 2, 4),
    weights(3, 3, 6, 2),
)
MIX = weights(6, 6)


def attention(xs):
    scores = jax.nn.softmax((xs @ QUERY) @ (xs @ KEY).transpose(0, 2, 1))
    return scores @ (xs @ VALUE)


def unet(xs):
    low = jax.nn.relu(conv(xs, DOWN, 2))
    up = jnp.repeat(jnp.repeat(low, 2, 1), 2, 2)
    return conv(jnp.concatenate([up, xs], -1), UP)


def periodic(xs):
    for kernel in (K1, K2):
        xs = jnp.pad(xs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
        xs = jnp.tanh(conv(xs, kernel, padding="VALID"))
    return xs


def pooled(xs):
    low = nnx.avg_pool(jnp.tanh(conv(xs, K1)), (2, 2), (2, 2))
    return jax.image.resize(low, xs.shape, "nearest")


def dilated(xs):
    return xs + conv(jnp.tanh(conv(xs, K1, dilation=2)), K2)


def recurrent(xs):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), xs, jnp.stack([MIX] * 3))[0]


def ordered(xs):
    return jnp.sort(xs @ MIX, 1)


def rolled(xs):
    return jnp.tanh(xs + 0.5 * jnp.roll(xs, 1, 1))


MLP = eqx.nn.MLP(6, 6, 16, 2, activation=jax.nn.softplus, key=jax.random.key(0))
# Divergence, then Frobenius norm: path and number of products.
CASES = {
    "nnx, running norms": (
        jacreg.nnx.function(NormedCNN(nnx.Rngs(0))),
        IMAGES,
        ("closed form", 0),
        ("local directions", 0),
    ),
    "nnx, layer norm": (
        jacreg.nnx.function(LayerNormed(nnx.Rngs(0))),
        VECTORS,
        ("products", 6),
        ("products", 6),
    ),
    "eqx MLP": (jacreg.eqx.function(MLP), VECTORS, ("closed form", 0), ("products", 6)),
    "vmapped": (
        jax.vmap(lambda x: jnp.tanh(MIX @ x)),
        VECTORS,
        ("closed form", 0),
        ("products", 6),
    ),
    "attention": (attention, jnp.ones((1, 3, 4)), ("products", 12), ("products", 12)),
    "U-Net": (unet, IMAGES, ("colouring", 28), ("colouring", 50)),
    "periodic": (periodic, IMAGES, ("closed form", 0), ("local directions", 0)),
    "pooled": (pooled, IMAGES, ("colouring", 18), ("colouring", 32)),
    "dilated residual": (dilated, IMAGES, ("local directions", 0), ("local directions", 0)),
    "recurrent": (recurrent, VECTORS, ("products", 6), ("products", 6)),
    "ordered": (ordered, VECTORS, ("products", 6), ("products", 6)),
    "rolled": (rolled, VECTORS, ("colouring", 2), ("colouring", 2)),
    "elementwise": (lambda xs: jnp.sin(xs) * xs, VECTORS, ("colouring", 1), ("colouring", 1)),
}
INNER = weights(6, 9), weights(9, 7), weights(7, 8), weights(8, 6)


def deep_dense(xs):
    for matrix in INNER[:3]:
        xs = jnp.tanh(xs @ matrix)
    return jnp.sin(xs @ INNER[3])


def energy(fn):
    return lambda xs: jnp.sum(jnp.sin(fn(xs)), axis=tuple(range(1, xs.ndim)))
