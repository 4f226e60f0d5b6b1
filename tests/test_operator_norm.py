"""operator_norm against dense singular values of convolutions and other maps."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._operator_norm import leading_triple

KEY = jax.random.key(3)


def _draw(shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape)


def _convolution(shape, kernel_shape, numbers, strides=None, **options):
    kernel = _draw(kernel_shape)
    strides = strides or (1,) * (len(shape) - 1)
    options = {"padding": "SAME", **options}

    def linear_map(x, kernel=kernel):
        return jax.lax.conv_general_dilated(
            x[None], kernel, strides, dimension_numbers=numbers, **options
        )[0]

    return linear_map, shape


NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
MAPS = {
    "same": lambda: _convolution((8, 8, 3), (3, 3, 3, 4), NHWC),
    "valid, channels first": lambda: _convolution((3, 4, 5), (4, 3, 3, 3), NCHW, padding="VALID"),
    "strided": lambda: _convolution((9, 9, 2), (3, 3, 2, 6), NHWC, (2, 2)),
    "dilated": lambda: _convolution((5, 6, 2), (3, 3, 2, 4), NHWC, rhs_dilation=(2, 2)),
    "transposed": lambda: _convolution(
        (5, 5, 2), (3, 3, 2, 3), NHWC, lhs_dilation=(2, 2), padding=((1, 2), (1, 2))
    ),
    "grouped": lambda: _convolution((4, 4, 4), (3, 3, 2, 4), NHWC, feature_group_count=2),
    "depthwise": lambda: _convolution((4, 4, 3), (3, 3, 1, 3), NHWC, feature_group_count=3),
    "explicit padding": lambda: _convolution(
        (4, 5, 2), (4, 4, 2, 2), NHWC, padding=((0, 3), (2, 1))
    ),
    "one dimension": lambda: _convolution((90, 2), (5, 2, 3), ("NWC", "WIO", "NWC")),
    "three dimensions": lambda: _convolution(
        (3, 3, 3, 2), (3, 3, 3, 2, 2), ("NHWDC", "HWDIO", "NHWDC")
    ),
    "convolve": lambda: (lambda x: jnp.convolve(x, jnp.ones(5) / 5, mode="same"), (100,)),
    "matrix": lambda: (lambda x: _draw((90, 80)) @ x, 80),
    "average pooling": lambda: (
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 2, 1), (2, 2, 1), "VALID") / 4,
        (16, 16, 3),
    ),
    "mean": lambda: (lambda x: x.mean(), (10, 10)),
}


def _dense_norm(linear_map, in_shape, *args):
    dense = jax.jit(jax.jacfwd(lambda x, *args: linear_map(x, *args).ravel()))
    matrix = np.asarray(dense(np.zeros(in_shape), *args))
    return np.linalg.svd(matrix.reshape(matrix.shape[0], -1), compute_uv=False)[0]


@cache
def _truth(name):
    return _dense_norm(*MAPS[name]())


@pytest.mark.parametrize("name", MAPS)
def test_linear_maps(x64, name):
    linear_map, in_shape = MAPS[name]()
    found = jax.jit(lambda key: jacreg.operator_norm(linear_map, in_shape, key=key))(KEY)
    assert found.shape == ()
    assert 1 - 1e-3 <= float(found) / _truth(name) <= 1 + 1e-9


def test_one_in_ten_thousand(x64):
    linear_map, in_shape = MAPS["same"]()
    truth = _truth("same")
    norm = jax.jit(lambda key: jacreg.operator_norm(linear_map, in_shape, key=key, tolerance=1e-4))
    for seed in range(5):
        found = norm(jax.random.key(seed))
        assert 1 - 1e-4 <= float(found) / truth <= 1 + 1e-9


def test_an_offset_does_not_count():
    kernel = _draw((5, 5)).astype(np.float32)
    with_bias = jacreg.operator_norm(lambda x: kernel @ x + 100.0, 5, key=KEY)
    np.testing.assert_allclose(with_bias, np.linalg.norm(kernel, ord=2), rtol=1e-5)


@pytest.mark.parametrize("fn", [jax.nn.relu, jnp.sin, jnp.abs, jnp.round, lambda x: x * x.sum()])
def test_a_nonlinear_map_raises_and_is_nan_under_jit(fn):
    with pytest.raises(ValueError, match="not linear"):
        jacreg.operator_norm(fn, (6,), key=KEY)
    assert jnp.isnan(jax.jit(lambda: jacreg.operator_norm(fn, (6,), key=KEY))())


def test_gradient_by_central_differences(x64):
    linear_map, in_shape = MAPS["strided"]()
    kernel = _draw((3, 3, 2, 6))
    direction = _draw(kernel.shape, seed=1)

    @jax.jit
    @jax.value_and_grad
    def value(kernel):
        return jacreg.operator_norm(
            lambda x: linear_map(x, kernel), in_shape, key=KEY, tolerance=1e-10
        )

    step = 1e-5
    after, before = value(kernel + step * direction)[0], value(kernel - step * direction)[0]
    slope = np.sum(value(kernel)[1] * direction)
    np.testing.assert_allclose(slope, (after - before) / (2 * step), rtol=1e-4)


def test_a_layer_divided_by_its_norm_has_norm_one(x64):
    linear_map, in_shape = MAPS["grouped"]()

    def divided(x):
        return linear_map(x) / jacreg.operator_norm(linear_map, in_shape, key=KEY, tolerance=1e-4)

    np.testing.assert_allclose(_dense_norm(divided, in_shape), 1, rtol=1e-4)


def test_singular_vectors(x64):
    linear_map, in_shape = MAPS["same"]()

    @jax.jit
    def found():
        triple = leading_triple(linear_map, in_shape, key=KEY, tolerance=1e-6)
        return triple, linear_map(triple.right)

    triple, image = found()
    assert triple.right.shape == in_shape
    assert triple.left.shape == (8, 8, 4)
    np.testing.assert_allclose(np.sum(np.square(triple.right)), 1)
    np.testing.assert_allclose(image, triple.value * np.asarray(triple.left), atol=1e-9)


def test_singular_vectors_carry_no_gradient(x64):
    def triple(kernel):
        return leading_triple(lambda x: kernel @ x, 3, key=KEY)

    kernel, direction = jax.random.normal(KEY, (2, 4, 3))
    vectors = jax.jit(partial(jax.jvp, triple))((kernel,), (direction,))[1]
    assert float(vectors.value) != 0
    np.testing.assert_array_equal(vectors.left, 0)
    np.testing.assert_array_equal(vectors.right, 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtype(dtype):
    found = jax.jit(lambda: jacreg.operator_norm(lambda x: 2 * x, (70,), key=KEY, dtype=dtype))()
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), 2, rtol=3e-2)


def test_default_dtype_is_jax_s(x64):
    norm = jax.jit(lambda: jacreg.operator_norm(lambda x: 2 * x, (3,), key=KEY))
    assert norm().dtype == jnp.float64


def test_steps_that_do_not_suffice_give_nan(x64):
    # A flat spectrum on more dimensions than are formed densely: eight steps bound no last digit.
    values = np.linspace(1, 2, 300)
    norm = partial(jacreg.operator_norm, lambda x: values * x, 300, key=KEY, tolerance=1e-9)
    few, enough = jax.jit(lambda: (norm(max_steps=8), norm()))()
    assert np.isnan(few)
    np.testing.assert_allclose(enough, 2, rtol=1e-9)


def test_nan_parameters_give_nan():
    assert jnp.isnan(jacreg.operator_norm(lambda x: x * jnp.nan, (5,), key=KEY))
    iterated = jax.jit(lambda: jacreg.operator_norm(lambda x: x * jnp.nan, (80,), key=KEY))
    assert jnp.isnan(iterated())


@pytest.mark.parametrize(
    ("linear_map", "error", "words"),
    [
        (jnp.ones((3, 3)), TypeError, "lambda x: matrix @ x"),
        (lambda x: jnp.zeros(3, jnp.int32), TypeError, "floating"),
    ],
)
def test_bad_input(linear_map, error, words):
    with pytest.raises(error, match=words):
        jacreg.operator_norm(linear_map, (3,), key=KEY)
