"""Plans of networks as large as users have them, which are traced and never run."""

import tracemalloc

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jacreg

NUMBERS = ("NHWC", "HWIO", "NHWC")
# Of what NumPy and Python hold while a plan is made. Pixels are 50,176: their square has 2.5e9.
MOST_BYTES = 400 << 20


def weights(*shape):
    return jnp.full(shape, 0.1)


def conv(xs, window, features, strides=1, groups=1):
    kernel = weights(window, window, xs.shape[-1] // groups, features)
    return lax.conv_general_dilated(
        xs, kernel, (strides,) * 2, "SAME", dimension_numbers=NUMBERS, feature_group_count=groups
    )


def norm(xs):
    centred = xs - xs.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def block(tokens, *, causal=False):
    """Pre-norm attention of two heads and an MLP."""
    features = tokens.shape[-1]
    parts = jnp.split(norm(tokens) @ weights(features, 3 * features), 3, -1)
    heads = [part.reshape(*part.shape[:2], 2, features // 2) for part in parts]
    seen = jax.nn.dot_product_attention(*heads, is_causal=causal).reshape(tokens.shape)
    tokens = tokens + seen @ weights(features, features)
    hidden = jax.nn.gelu(norm(tokens) @ weights(features, 2 * features))
    return tokens + hidden @ weights(2 * features, features)


def vision_transformer(xs):
    tokens = conv(xs, 16, 32, 16).reshape(xs.shape[0], -1, 32)
    return block(block(tokens)).mean(1) @ weights(32, 10)


def residual(xs):
    xs = jax.nn.relu(conv(xs, 7, 16, 2))
    xs = lax.reduce_window(xs, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for strides in (1, 2):
        hidden = conv(jax.nn.relu(conv(xs, 3, 16, strides)), 3, 16)
        xs = jax.nn.relu(hidden + (xs if strides == 1 else conv(xs, 1, 16, strides)))
    return xs.mean((1, 2)) @ weights(16, 10)


def next_convolutions(xs):
    xs = conv(xs, 4, 16, 4)
    for _ in range(2):
        xs = xs + jax.nn.gelu(norm(conv(xs, 7, 16, groups=16)) @ weights(16, 16))
    return xs.mean((1, 2)) @ weights(16, 10)


def language_model(tokens):
    return block(block(tokens, causal=True), causal=True)


def causal_convolutions(xs):
    """A receptive field of 511 steps."""
    for each in range(8):
        apart = 2**each
        shifted = jnp.pad(xs, ((0, 0), (2 * apart, 0), (0, 0)))
        hidden = lax.conv_general_dilated(
            shifted, weights(3, 4, 4), (1,), "VALID", rhs_dilation=(apart,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )  # fmt: skip
        xs = xs + jnp.tanh(hidden)
    return xs


NETWORKS = {
    "vision transformer": (vision_transformer, (2, 224, 224, 3), "products", 10),
    "residual": (residual, (2, 224, 224, 3), "products", 10),
    "next convolutions": (next_convolutions, (2, 224, 224, 3), "products", 10),
    "language model": (language_model, (2, 256, 32), "products", 256 * 32),
    "causal convolutions": (causal_convolutions, (2, 1024, 4), "colouring", 511 * 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_norm_is_planned_in_little_memory(name):
    function, shape, path, products = NETWORKS[name]
    plans = []

    def planned(xs):
        plans.append(jacreg.plan(jacreg.frobenius_squared, jacreg.linearize(function, xs)))

    tracemalloc.start()
    jax.eval_shape(planned, jnp.ones(shape))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (plans[0].path, plans[0].num_products) == (path, products)
    assert most < MOST_BYTES, f"{most / 2**20:.0f} MiB"


def test_the_laplacian_of_an_energy_is_planned_in_little_memory():
    function, shape, *_ = NETWORKS["vision transformer"]

    def planned(xs):
        lin = jacreg.linearize(lambda xs: (function(xs) ** 2).reshape(len(xs), -1).sum(1), xs)
        assert jacreg.plan(jacreg.laplacian, lin).num_products in (0, xs[0].size)

    tracemalloc.start()
    jax.eval_shape(planned, jnp.ones(shape))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < MOST_BYTES, f"{most / 2**20:.0f} MiB"
