"""The banded lowering equals the definition in value, gradient and second derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.conv import ConvLayout, add_bias, conv, max_pool
from models.conv._lowering import banded_conv
from models.conv._lowering_pooled import batch_last_conv_max_pool, largest


@pytest.mark.parametrize(
    ("size", "window", "channels", "features", "padding"),
    [
        ((28, 28), (5, 5), 1, 6, ((2, 2), (2, 2))),
        ((14, 14), (5, 5), 6, 16, ((0, 0), (0, 0))),
        ((9, 31), (3, 2), 2, 3, ((0, 2), (1, 0))),
        ((5, 4), (5, 4), 2, 1, ((0, 0), (0, 0))),
        ((6, 7), (1, 1), 2, 3, ((0, 0), (0, 0))),
    ],
)
@pytest.mark.parametrize("parts", [("WNCH", "OWIH", "CHNW")])
def test_equals_the_definition(size, window, channels, features, padding, parts, x64):
    layout = ConvLayout(*parts)
    if layout.spatial_dims == "WH":
        padding = padding[::-1]
    sizes = {"N": 3, "C": channels, "H": size[0], "W": size[1]}
    widths = {"I": channels, "O": features, "H": window[0], "W": window[1]}
    xs = jax.random.normal(jax.random.key(0), [sizes[a] for a in layout.inputs], jnp.float64)
    kernel = jax.random.normal(jax.random.key(1), [widths[a] for a in layout.kernel], jnp.float64)

    def banded(xs, kernel):
        return banded_conv(xs, kernel, layout, padding)

    def definition(xs, kernel):
        return lax.conv_general_dilated(
            xs, kernel, (1, 1), padding, dimension_numbers=layout.dimension_numbers
        )

    probe = jax.random.normal(jax.random.key(2), definition(xs, kernel).shape, jnp.float64)

    @functools.partial(jax.jit, static_argnums=0)
    def results(f, xs, kernel):
        def penalty(xs, kernel):
            ys, pullback = jax.vjp(lambda xs: jnp.tanh(f(jnp.sin(xs), kernel)), xs)
            return jnp.sum(pullback(probe)[0] ** 2) + jnp.sum(ys**2)

        tangents = jnp.cos(xs), jnp.cos(kernel)
        return (
            f(xs, kernel),
            jax.grad(penalty, (0, 1))(xs, kernel),
            jax.jvp(f, (xs, kernel), tangents),
        )

    got, expected = results(banded, xs, kernel), results(definition, xs, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, expected)


def test_auto_is_taken_where_it_pays_and_only_there():
    def primitives(lowering, **options):
        xs = jnp.ones((2, 14, 14, options.pop("channels", 6)))
        kernel = jnp.ones(
            (*options.pop("window", (5, 5)), xs.shape[-1], options.pop("features", 16))
        )
        jaxpr = jax.make_jaxpr(lambda xs: conv(xs, kernel, lowering=lowering, **options))(xs)
        return {equation.primitive.name for equation in jaxpr.eqns}

    on_cpu = jax.default_backend() == "cpu"
    assert ("conv_general_dilated" in primitives("auto")) != on_cpu
    assert "conv_general_dilated" in primitives("definition")
    for options in (
        {"strides": 2},
        {"kernel_dilation": 2},
        {"window": (3, 3)},
        {"channels": 16},
        {"features": 32},
        {"padding": ((-1, 0), (0, 0))},
    ):
        assert "conv_general_dilated" in primitives("auto", **options)


def test_linear_and_transposable():
    xs, kernel = jnp.ones((2, 12, 12, 1)), jnp.ones((5, 5, 1, 6))
    _, jvp = jax.linearize(lambda xs: conv(xs, kernel, lowering="auto"), xs)
    (back,) = jax.linear_transpose(jvp, xs)(jnp.ones((2, 12, 12, 6)))
    assert back.shape == xs.shape


@pytest.mark.parametrize(
    ("size", "window", "channels", "features", "padding", "pool"),
    [
        ((12, 16), (5, 5), 1, 6, ((2, 2), (2, 2)), 2),
        ((14, 14), (5, 5), 6, 5, ((0, 0), (0, 0)), 2),
        ((13, 17), (5, 6), 2, 3, ((0, 2), (1, 0)), 3),
    ],
)
def test_with_pooling_equals_the_definition(size, window, channels, features, padding, pool, x64):
    layout = ConvLayout("WNCH", "OWIH", "CHNW")
    sizes = {"N": 3, "C": channels, "H": size[0], "W": size[1]}
    widths = {"I": channels, "O": features, "H": window[0], "W": window[1]}
    shape = [sizes[axis] for axis in layout.inputs]
    xs = jax.random.normal(jax.random.key(0), shape, jnp.float64)
    kernel = jax.random.normal(jax.random.key(1), [widths[a] for a in layout.kernel], jnp.float64)
    bias = jnp.arange(float(features))
    padding = padding[::-1]  # in the order of the kernel's letters

    def lowered(xs, kernel, bias):
        return batch_last_conv_max_pool(xs, kernel, bias, layout, padding, pool, jnp.tanh)

    def definition(xs, kernel, bias):
        ys = lax.conv_general_dilated(
            xs, kernel, (1, 1), padding, dimension_numbers=layout.dimension_numbers
        )
        return max_pool(jnp.tanh(add_bias(ys, bias, layout.outputs)), pool, layout.following)

    probe = jax.random.normal(jax.random.key(2), definition(xs, kernel, bias).shape, jnp.float64)

    @functools.partial(jax.jit, static_argnums=0)
    def results(f, *arrays):
        def penalty(xs, kernel, bias):
            ys, pullback = jax.vjp(lambda xs: f(jnp.sin(xs), kernel, bias), xs)
            return jnp.sum(pullback(probe)[0] ** 2) + jnp.sum(ys**2)

        tangents = tuple(jnp.cos(array) for array in arrays)
        return f(*arrays), jax.grad(penalty, (0, 1, 2))(*arrays), jax.jvp(f, arrays, tangents)

    got, expected = results(lowered, xs, kernel, bias), results(definition, xs, kernel, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, expected)


def test_equal_maxima_share_the_gradient():
    ys = jnp.array([[1.0, 2.0, 0.0, 5.0], [1.0, 2.0, 3.0, 5.0], [1.0, 0.0, 3.0, 5.0]]).T
    got = jax.grad(lambda ys: jnp.sum(jnp.sin(largest(ys))))(ys)
    np.testing.assert_allclose(
        got, jax.grad(lambda ys: jnp.sum(jnp.sin(jnp.max(ys, 0))))(ys), rtol=1e-6
    )
    ties = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 3.0], [1.0, 1.0, 3.0], [1.0, -1.0, -3.0]])
    expected = [[1 / 4, 1 / 2, 0], [1 / 4, 0, 1 / 2], [1 / 4, 1 / 2, 1 / 2], [1 / 4, 0, 0]]
    np.testing.assert_allclose(jax.grad(lambda ys: jnp.sum(largest(ys)))(ties), expected, rtol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the form of CPUs")
def test_a_network_takes_the_pooled_form_for_batches_and_the_other_for_few_rows():
    module, variables = models.build("lenet", framework="linen", key=jax.random.key(0))
    model = models.transfer((module, variables), "nnx")
    xs = jax.random.uniform(jax.random.key(1), (16, 28, 28, 1))
    few = jnp.concatenate([model(xs[i : i + 4]) for i in range(0, 16, 4)])
    np.testing.assert_allclose(model(xs), few, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module.apply(variables, xs), few, rtol=1e-4, atol=1e-5)
    pooled = [_takes_pooled_form(model, xs), _takes_pooled_form(model, xs[:4])]
    assert pooled == [True, False]


def _takes_pooled_form(model, xs):
    return "custom_jvp_call" in str(jax.make_jaxpr(lambda xs: model(xs))(xs))
