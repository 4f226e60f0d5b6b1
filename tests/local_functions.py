"""Functions whose Jacobians are sparse in known ways, batched, NHWC."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHAPE = (2, 6, 6, 3)


def images(shape=SHAPE, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def kernel(shape, seed=0, dtype=None):
    dtype = dtype or jnp.zeros(()).dtype
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 3, dtype)


def conv(x, channels, size=3, stride=1, padding="SAME", groups=1, dilation=1, up=None, seed=0):
    weights = kernel((size, size, x.shape[-1] // groups, channels), seed, x.dtype)
    return lax.conv_general_dilated(
        x, weights, (stride, stride), padding, lhs_dilation=up,
        rhs_dilation=(dilation, dilation), feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def average_pool(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def conv_net(x, depth=3, width=4):
    for _ in range(depth - 1):
        x_out = jnp.tanh(conv(x, width))
        x = x_out
    return conv(x, 3)


def unet(x):
    skip = jnp.tanh(conv(x, 4))
    low = jnp.tanh(conv(max_pool(skip), 6))
    up = jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)
    return conv(jnp.tanh(conv(jnp.concatenate([skip, up], -1), 4)), x.shape[-1])


def attention(x):
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    weights = jax.nn.softmax(tokens @ tokens.transpose(0, 2, 1), -1)
    return (weights @ tokens).reshape(x.shape)


def sorted_rows(x):
    return x * jnp.sort(x, axis=1)


def argmax_gather(x):
    return x * jnp.take_along_axis(x, jnp.argmax(x, axis=1, keepdims=True), axis=1)


def stencil(x):
    return x + jnp.sin(jnp.roll(x, 1, 1)) * jnp.roll(x, 1, 2)


def coupling(x):
    half = x[..., :1]
    return jnp.concatenate([half, x[..., 1:] * jnp.exp(conv(half, x.shape[-1] - 1))], -1)


def pixel_shuffle(x):
    n, h, w, c = x.shape
    y = conv(x, 4 * c).reshape(n, h, w, 2, 2, c)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c)


def scanned(x):
    return lax.scan(lambda c, _: (jnp.tanh(conv(c, x.shape[-1])), None), x, None, length=2)[0]


def scanned_rows(x):
    def step(carry, row):
        return carry * 0.5 + row, carry * row

    start = jnp.zeros(x[:, 0].shape, x.dtype)
    return lax.scan(step, start, x.transpose(1, 0, 2, 3))[1].transpose(1, 0, 2, 3)


def looped(x):
    return lax.fori_loop(0, 2, lambda i, c: jnp.tanh(conv(c, x.shape[-1])), x)


@jax.custom_vjp
def reverse_only(x):
    return conv(x, 3)


reverse_only.defvjp(
    lambda x: (conv(x, 3), None),
    lambda _, g: jax.linear_transpose(lambda x: conv(x, 3), g)(g),
)


@jax.custom_jvp
def straight_through(x):
    """The value sees one entry, the derivative a neighbourhood."""
    return jnp.round(x)


straight_through.defjvp(
    lambda primals, tangents: (jnp.round(primals[0]), conv(tangents[0], primals[0].shape[-1]))
)


# name -> function of [N, H, W, 3] to the same shape
SQUARE = {
    "conv": lambda x: conv(x, 3),
    "conv_net": conv_net,
    "depthwise": lambda x: conv(jnp.sin(x), 3, groups=3),
    "dilated": lambda x: jnp.tanh(conv(x, 3, dilation=2)),
    "strided_then_transposed": lambda x: conv(
        jnp.sin(conv(x, 4, stride=2)), 3, padding=[(1, 2), (1, 2)], up=(2, 2)
    ),
    "residual": lambda x: x + conv(jax.nn.relu(conv(x, 4)), 3),
    "unet": unet,
    "stencil": stencil,
    "flip": lambda x: x * jnp.flip(x, 1),
    "softmax_over_channels": lambda x: jax.nn.softmax(x, -1),
    "layer_norm": lambda x: (x - x.mean(-1, keepdims=True)) / (1 + x.std(-1, keepdims=True)),
    "group_norm": lambda x: x - (x**2).mean((1, 2), keepdims=True),
    "merged_positions": lambda x: jnp.tanh(
        conv(x, 3).reshape(x.shape[0], -1, 3) @ kernel((3, 3), dtype=x.dtype)
    ).reshape(x.shape),
    "cumulative": lambda x: jnp.cumsum(x**2, axis=1),
    "coupling": coupling,
    "scan": scanned,
    "scan_over_rows": scanned_rows,
    "vmap": jax.vmap(lambda x: conv(x[None], 3)[0]),
    "checkpoint": jax.checkpoint(lambda x: conv(jnp.sin(conv(x, 3)), 3)),
    "jit": jax.jit(lambda x: conv(jnp.sin(x), 3)),
    "map_over_examples": lambda x: lax.map(lambda y: conv(y[None], 3)[0], x),
    "indexed_update": lambda x: x.at[:, ::2].add(jnp.sin(x[:, 1::2])),
    "permuted": lambda x: x[:, jnp.array([3, 0, 1, 2, 5, 4])] * x,
    "masked": lambda x: jnp.where(jnp.arange(6)[:, None, None] < 3, conv(x, 3), x),
    "branch": lambda x: lax.cond(x.sum() > 0, lambda x: conv(x, 3), lambda x: x**2, x),
    "fori_loop": looped,
    "argmax_gather": argmax_gather,
    "sorted": sorted_rows,
    "attention": attention,
    "reverse_only": reverse_only,
    "straight_through": straight_through,
    "gradient_of_energy": jax.grad(lambda x: (jnp.tanh(conv(max_pool(x), 3)) ** 3).sum()),
}

# name -> function of [N, H, W, 3] to another shape
RECTANGULAR = {
    "pools": lambda x: average_pool(conv(jnp.tanh(conv(x, 4)), 4)),
    "max_pool": lambda x: conv(max_pool(conv(x, 4)), 2),
    "pool_by_reshape": lambda x: (
        conv(x, 3).reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, 3).max(axis=(2, 4))
    ),
    "pixel_shuffle": pixel_shuffle,
    "resize": lambda x: jax.image.resize(
        jnp.sin(x), (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], 3), "bilinear"
    ),
    "top_k": lambda x: lax.top_k(x, 2)[0],
    "slices": lambda x: x[:, 1::2, 1:-1, :2] ** 2,
    "fancy_index": lambda x: x[:, ::2, jnp.array([1, 1, 3])] ** 2,
    "max_over_channels": lambda x: x.max(-1),
    "product_over_channels": lambda x: jnp.prod(x, axis=-1),
    "einsum_diagonal": lambda x: jnp.einsum("nhhc->nhc", x**2),
    "fourier": lambda x: jnp.fft.rfft(x, axis=1).real,
    "dense": lambda x: jnp.tanh(x.reshape(x.shape[0], -1) @ kernel((108, 4), dtype=x.dtype)),
    "one_number": lambda x: (x**2).sum((1, 2, 3)),
}
