"""Closed forms of convolutions padded by other entries than zeros, and with a precision."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import held, numbers
from flax import linen as nn
from jax import lax

import jacreg

pytestmark = pytest.mark.usefixtures("x64")

XS = numbers(2, 5, 6, 2)


def layer(x, kernel, widths, mode):
    """A convolution without padding of an image that is padded before."""
    padded = jnp.pad(x, ((0, 0), *widths, (0, 0)), mode=mode)
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=numbers)


def kernel(size, into, out, seed=0):
    return numbers(size, size, into, out, seed=seed) / size**2


BOTH = ((1, 1), (1, 1))
K2, K24, K42, K44 = kernel(3, 2, 2), kernel(3, 2, 4, 1), kernel(3, 4, 2, 2), kernel(3, 4, 4, 3)


@pytest.mark.parametrize("mode", ["wrap", "reflect", "edge", "symmetric"])
def test_up_to_three_layers(mode):
    def one(x):
        return layer(x, K2, BOTH, mode) * jnp.sin(x)

    def two(x):
        return jnp.cos(x) * layer(jnp.tanh(layer(x, K24, BOTH, mode)), K42, BOTH, mode)

    def three(x):
        hidden = jnp.tanh(layer(jnp.tanh(layer(x, K24, BOTH, mode)), K44, BOTH, mode))
        return layer(hidden, K42, BOTH, mode) + x

    for fn in (one, two, three):
        held(fn, XS)


@pytest.mark.parametrize("widths", [((2, 0), (0, 2)), ((1, 1), (2, 0)), ((0, 2), (1, 1))])
def test_uneven_widths(widths):
    def net(x):
        hidden = jnp.tanh(layer(x, K24, widths, "reflect"))
        return layer(hidden, K42, tuple(w[::-1] for w in widths), "wrap")

    held(net, XS)


def test_a_mixture_of_paddings():
    def net(x):
        hidden = jnp.tanh(layer(x, K24, BOTH, "wrap"))
        hidden = jnp.tanh(lax.conv_general_dilated(
            hidden, K44, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ))  # fmt: skip
        return layer(hidden, K42, BOTH, "edge")

    held(net, XS)


@pytest.mark.parametrize("config", [((2, 1), (1, 0)), ((2, 0), (-1, 3)), ((3, -1), (1, 1))])
def test_zeros_around_or_less_of_the_image(config):
    """Padding and cropping apart from the convolution is its own padding."""

    def net(x):
        padded = lax.pad(x, 0.0, [(0, 0, 0), *((*each, 0) for each in config), (0, 0, 0)])
        hidden = jnp.tanh(lax.conv_general_dilated(
            padded, K24, (1, 1), [(1, 1), (0, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        ))  # fmt: skip
        *_, high, wide, _ = hidden.shape
        back = [(7 - high - a, a) for a in (1,)] + [(8 - wide - a, a) for a in (1,)]
        return lax.conv_general_dilated(
            hidden, K42, (1, 1), back, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    held(net, XS)


def test_layers_of_frameworks():
    for mode in ("CIRCULAR", "REFLECT", "REPLICATE"):
        first, second = (
            eqx.nn.Conv2d(i, o, 3, padding=1, padding_mode=mode, key=jax.random.key(o))
            for i, o in ((1, 3), (3, 1))
        )
        held(jax.vmap(lambda x, a=first, b=second: b(jax.nn.gelu(a(x)))), numbers(2, 1, 5, 4))
    module = nn.Sequential([nn.Conv(3, (3, 3), padding="CIRCULAR"), jnp.tanh,
                            nn.Conv(2, (3, 3), padding="CIRCULAR")])  # fmt: skip
    variables = jax.tree.map(lambda v: v.astype(float), module.init(jax.random.key(0), XS))
    held(lambda x: module.apply(variables, x), XS)


def test_one_dimension():
    taps = numbers(3, 2, 2)

    def net(x):
        for _ in range(2):
            x = jnp.tanh(lax.conv_general_dilated(
                jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="wrap"), taps, (1,), "VALID",
                dimension_numbers=("NWC", "WIO", "NWC"),
            ))  # fmt: skip
        return x

    held(net, numbers(2, 6, 2))


@pytest.mark.parametrize("change", ["reversed", "shifted", "strided", "scaled in between"])
def test_other_moves_are_right_or_not_read(change):
    """What is no padding has other numbers: they are the dense ones wherever they come from."""

    def net(x):
        hidden = jnp.tanh(layer(x, K24, BOTH, "wrap"))
        hidden = {
            "reversed": lambda h: h[:, ::-1],
            "shifted": lambda h: jnp.roll(h, 2, axis=2),
            "strided": lambda h: jnp.concatenate([h[:, ::2], h[:, 1::2]], axis=1),
            "scaled in between": lambda h: jnp.roll(h, 1, axis=1) * jnp.sin(h),
        }[change](hidden)
        return layer(hidden, K42, BOTH, "reflect")

    dense = jax.vmap(jax.jacfwd(lambda x: net(x[None])[0]))(XS).reshape(2, 60, 60)
    lin = jacreg.linearize(net, XS)
    np.testing.assert_allclose(
        jacreg.divergence(lin), np.trace(dense, axis1=1, axis2=2), atol=1e-11
    )
