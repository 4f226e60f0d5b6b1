"""Which parameter of a model's call takes the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapter_calls import XS, apply, told
from flax import linen as nn
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx
from jacreg._batch_parameter import likely_batch

TS = jnp.linspace(0.1, 1, 4)
WEIGHT = jnp.asarray([0.5, -1.0, 2.0])


# Fields: every one broadcasts, so that the wrong order would raise nothing.


class Silent(eqx.Module):
    weight: jax.Array

    def __call__(self, t, y):
        return jnp.tanh(self.weight * y) * t


class Diffrax(Silent):
    def __call__(self, t, y, args):
        return Silent.__call__(self, t, y) if args is None else Silent.__call__(self, t, y) + args


class Keyed(Silent):
    def __call__(self, time, x, *, key=None):
        return Silent.__call__(self, time, x)


class Noised(Silent):
    def __call__(self, sigma, x, train: bool = False):
        return Silent.__call__(self, sigma, x)


class StateFirst(Silent):
    def __call__(self, y, t):
        return Silent.__call__(self, t, y)


class NnxField(nnx.Module):
    def __init__(self, weight):
        self.weight = nnx.Param(weight)

    def __call__(self, t, y, args=None):
        return jnp.tanh(self.weight[...] * y) * t[:, None]


class LinenField(nn.Module):
    @nn.compact
    def __call__(self, t, y):
        weight = self.param("weight", lambda _: WEIGHT)
        return jnp.tanh(weight * y) * t[:, None]


FIELDS = {
    "(t, y)": lambda: jacreg.eqx.function(Silent(WEIGHT)),
    "(t, y, args)": lambda: jacreg.eqx.function(Diffrax(WEIGHT)),
    "(time, x, key)": lambda: jacreg.eqx.function(Keyed(WEIGHT)),
    "(sigma, x, train)": lambda: jacreg.eqx.function(Noised(WEIGHT)),
    "(y, t)": lambda: jacreg.eqx.function(StateFirst(WEIGHT)),
    "functional": lambda: lambda *xs: apply(jacreg.eqx.functional(Silent(WEIGHT)), *xs),
    "nnx": lambda: jacreg.nnx.function(NnxField(WEIGHT)),
    "nnx functional": lambda: lambda *xs: apply(jacreg.nnx.functional(NnxField(WEIGHT)), *xs),
    "linen": lambda: jacreg.linen.function(LinenField(), {"params": {"weight": WEIGHT}}),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_the_derivative_of_a_field_is_that_in_its_state(name):
    lin = jacreg.linearize(FIELDS[name](), XS, TS)
    slopes = (1 - jnp.tanh(WEIGHT * XS) ** 2) * WEIGHT * TS[:, None]
    np.testing.assert_allclose(jacreg.divergence(lin), slopes.sum(1), rtol=1e-5)
    np.testing.assert_allclose(lin.value, jnp.tanh(WEIGHT * XS) * TS[:, None], rtol=1e-5)


def test_args_of_a_field_come_last_or_as_an_option():
    fn = jacreg.eqx.function(Diffrax(WEIGHT))
    np.testing.assert_allclose(fn(XS, TS, XS), fn(XS, TS) + XS, rtol=1e-6)
    shared = jacreg.eqx.function(Diffrax(WEIGHT), args=WEIGHT)
    np.testing.assert_allclose(shared(XS, TS), fn(XS, TS) + WEIGHT, rtol=1e-6)
    at_half = jacreg.eqx.function(Diffrax(WEIGHT), t=0.5)
    np.testing.assert_allclose(at_half(XS), fn(XS, 0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("x t", "x"), ("t y", "y"), ("t y args", "y"), ("t x y", "x"), ("step sample", "sample"),
        ("ts ys", "ys"), ("t z", "z"), ("x_t t", "x_t"), ("noise_level images", "images"),
        ("state x", "state"), ("carry inputs", "carry"), ("z x", "z"), ("img y", "img"),
        ("tokens positions", "tokens"), ("query keys", "query"),
        ("t tokens", None), ("label x", None), ("params x", None), ("y x", None), ("t t2", None),
    ],
)  # fmt: skip
def test_names_tell_which_parameter_takes_the_batch(parameters, expected):
    free = parameters.split()
    assert likely_batch(free, free, 2) == expected


def test_a_single_parameter_takes_the_batch_whatever_its_name():
    class Embedding(eqx.Module):
        def __call__(self, t, scale=2.0):
            return scale * t

    np.testing.assert_allclose(jacreg.eqx.function(Embedding())(XS), 2 * XS)


def test_what_stands_behind_starred_inputs_keeps_its_default():
    class Added(nnx.Module):
        def __call__(self, xs, *others, scale=2.0):
            return scale * sum(others, xs)

    class Doubled(nnx.Module):
        def __call__(self, xs):
            return 2 * xs

    fn = jacreg.nnx.function(Added())
    np.testing.assert_allclose(fn(XS, XS, 3 * XS), 10 * XS, rtol=1e-6)
    np.testing.assert_allclose(jacreg.nnx.function(Added(), scale=1.0)(XS, XS), 2 * XS, rtol=1e-6)
    # Flax's own: `__call__(self, *args, rngs=None, **kwargs)`.
    fn = jacreg.nnx.function(nnx.Sequential(Doubled(), jnp.tanh, Doubled()))
    np.testing.assert_allclose(fn(XS), 2 * jnp.tanh(2 * XS), rtol=1e-6)


class Conditional(eqx.Module):
    def __call__(self, label, x):
        return label * x**2


def test_where_it_is_open_the_line_to_write_is_shown_and_works():
    text = told(lambda: jacreg.linearize(jacreg.eqx.function(Conditional()), XS, TS))
    assert "Conditional.__call__(label, x)" in text
    assert 'jacreg.eqx.function(model, wrt="x") or wrt="label"' in text
    lin = jacreg.linearize(jacreg.eqx.function(Conditional(), wrt="x"), XS, TS)
    np.testing.assert_allclose(jacreg.divergence(lin), (2 * TS[:, None] * XS).sum(1), rtol=1e-5)
    lin = jacreg.linearize(jacreg.eqx.function(Conditional(), wrt="label"), XS, TS)
    np.testing.assert_allclose(jacreg.divergence(lin), 3 * TS**2, rtol=1e-5)
