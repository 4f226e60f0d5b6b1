"""Chains through axes of one entry: convolutions of one example under vmap, one channel."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import chain_trace, conv, held, left_to_products, numbers

import jacreg
import jacreg.eqx
import models

INTO, OUT = numbers(3, 3, 1, 3), numbers(3, 3, 3, 1)
ROWS = numbers(3, 1, 3), numbers(2, 3, 1)


def one_image(x):
    """As a function of one example has it, with its batch axis kept in between."""
    return conv(jnp.tanh(conv(jnp.sin(x[None]), INTO)), OUT)[0]


def energy(x):
    return jnp.tanh(conv(jnp.tanh(conv(x[None], INTO)), OUT)).sum()


@pytest.mark.parametrize("fn", [one_image, jax.grad(energy)])
@pytest.mark.parametrize("shape", [(4, 3), (1, 3), (3, 1), (1, 1)])
@pytest.mark.parametrize("count", [1, 2])
def test_one_image_at_a_time(fn, shape, count, x64):
    held(jax.vmap(fn), numbers(count, *shape, 1))


class Convolutions(eqx.Module):
    layers: list[eqx.nn.Conv2d]

    def __init__(self, channels):
        widths = (channels, 4, 3, channels)
        self.layers = [
            eqx.nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, key=jax.random.key(i))
            for i in range(3)
        ]

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = jax.nn.gelu(layer(x))
        return self.layers[-1](x)


@pytest.mark.parametrize("shape", [(2, 4, 3), (1, 4, 3), (2, 1, 3), (2, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize("count", [1, 2])
def test_equinox_convolutions(shape, count, x64):
    held(jax.vmap(Convolutions(shape[0])), numbers(count, *shape))


@pytest.mark.parametrize(
    ("name", "args"), [("score_conv", ()), ("flow_conv", (np.asarray([0.1, 0.7]),))]
)
def test_our_own_fields_on_images(name, args, x64):
    @jax.jit
    def both(xs):
        model = models.build(
            name, framework="equinox", key=jax.random.key(0), input_shape=(5, 4, 1), widths=(3, 4)
        )
        model = jax.tree.map(lambda a: a.astype(float) if eqx.is_inexact_array(a) else a, model)
        lin = jacreg.linearize(jacreg.eqx.function(model), xs, *args)
        return chain_trace(lin), jacreg.divergence(lin, jacreg.Exact(20))

    found, expected = both(numbers(2, 5, 4, 1))
    assert found is not None, "not read as chains"
    np.testing.assert_allclose(found, expected, rtol=1e-10)


FIELDS = {
    "a signal without channels": (
        lambda xs: conv(jnp.tanh(conv(xs[..., None], ROWS[0])), ROWS[1])[..., 0], (2, 5)
    ),
    "one signal at a time": (
        jax.vmap(lambda x: conv(jnp.tanh(conv(x[None, :, None], ROWS[0])), ROWS[1])[0, :, 0]),
        (2, 5),
    ),
    "an image without channels": (
        lambda xs: conv(jnp.tanh(conv(xs[..., None], INTO)), OUT)[..., 0] + jnp.sin(xs), (2, 4, 3)
    ),
    "columns": (
        jax.vmap(lambda x: (numbers(4, 5) @ jnp.tanh(numbers(5, 4) @ x[:, None]))[:, 0]), (2, 4)
    ),
    "the only channel beside a time": (
        lambda xs: conv(jnp.pad(jnp.tanh(xs), [(0, 0)] * 3 + [(1, 1)]), numbers(3, 3, 3, 1)),
        (2, 4, 3, 1),
    ),
    "through one pixel": (
        lambda xs: conv(
            jnp.tanh(conv(xs, numbers(2, 3, 2, 3), "VALID")), numbers(1, 1, 3, 2), [(0, 1), (1, 1)]
        ),
        (2, 2, 3, 2),
    ),
    "through one channel": (lambda xs: jnp.tanh(xs @ numbers(4, 1)) @ numbers(1, 4), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_axes_of_one_entry(name, x64):
    fn, shape = FIELDS[name]
    held(fn, numbers(*shape))


OTHERS = {
    "through a vector": (lambda xs: jnp.tanh(xs).reshape(2, -1).reshape(xs.shape), (2, 4, 3, 1)),
    "repeated": (lambda xs: jnp.tanh(jnp.broadcast_to(xs[:, :1], xs.shape)), (2, 4)),
    "a sum": (lambda xs: xs - jnp.tanh(xs).sum(1, keepdims=True), (2, 4)),
    "an outer product": (
        lambda xs: jnp.einsum("nij,jk->nik", jnp.tanh(xs)[..., None], numbers(1, 4)).sum(1), (2, 4)
    ),
    "rows as channels": (lambda xs: jnp.tanh(xs).swapaxes(1, 3), (2, 3, 1, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_axis_of_one_entry_is_left_to_products(name, x64):
    fn, shape = OTHERS[name]
    left_to_products(fn, numbers(*shape), coupled=True)
