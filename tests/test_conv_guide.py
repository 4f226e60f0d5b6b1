"""JAX's guide to general convolutions, example by example, through models.conv."""

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import pytest
from jax import lax

from models.conv import (
    ConvLayout,
    conv,
    conv_transpose,
    gaussian_smooth,
    gaussian_window,
    moving_average,
    smooth,
)

NHWC = ConvLayout("NHWC", "HWIO", "NHWC")
NCHW = ConvLayout("NCHW", "OIHW", "NCHW")


@pytest.fixture
def image():
    """The guide's stripes, 200 x 198 there: `[1, 40, 38, 3]` in NHWC."""
    rows = jnp.zeros((1, 40, 38, 3))
    for channel, (low, high) in enumerate([(2, 12), (14, 20), (24, 34)]):
        rows = rows.at[0, low:high, low:high, channel].set(1.0)
    return rows


@pytest.fixture
def kernel():
    """The guide's edge filter on the diagonal of three channels, in HWIO."""
    edge = jnp.array([[1.0, 1, 0], [1, 0, -1], [0, -1, -1]])
    return jnp.zeros((3, 3, 3, 3)).at[:, :].set(edge[:, :, None, None] * jnp.eye(3))


def test_one_dimensional_smoothing():
    x = jnp.linspace(0, 10, 500)
    ys = jnp.sin(x) + 0.2 * jax.random.normal(jax.random.key(0), x.shape)
    window = jnp.ones(10) / 10
    smoothed = jnp.convolve(ys, window, mode="same")
    np.testing.assert_array_equal(smooth(ys, window), smoothed)
    np.testing.assert_allclose(moving_average(ys, 10), smoothed, atol=1e-6)
    inside = slice(10, -10)
    noise = np.std(np.asarray(ys - jnp.sin(x))[inside])
    assert np.std(np.asarray(smoothed - jnp.sin(x))[inside]) < 0.5 * noise


def test_gaussian_smoothing_of_an_image():
    image = jax.random.normal(jax.random.key(1), (30, 26))
    x = jnp.linspace(-3, 3, 7)
    window = jsp.stats.norm.pdf(x) * jsp.stats.norm.pdf(x[:, None])
    smoothed = jsp.signal.convolve(image, window, mode="same")
    np.testing.assert_array_equal(smooth(image, window), smoothed)
    np.testing.assert_allclose(gaussian_window(1.0, 2), window / window.sum(), rtol=1e-5)
    np.testing.assert_allclose(gaussian_smooth(image, 1.0), smoothed / window.sum(), atol=1e-5)
    assert gaussian_window(0.5, 3).shape == (5, 5, 5)


def test_lax_conv(image, kernel):
    xs, weights = jnp.transpose(image, (0, 3, 1, 2)), jnp.transpose(kernel, (3, 2, 0, 1))
    np.testing.assert_array_equal(conv(xs, weights, NCHW), lax.conv(xs, weights, (1, 1), "SAME"))


def test_conv_with_general_padding(image, kernel):
    xs, weights = jnp.transpose(image, (0, 3, 1, 2)), jnp.transpose(kernel, (3, 2, 0, 1))
    reference = lax.conv_with_general_padding(xs, weights, (1, 1), ((2, 2), (2, 2)), (1, 1), (1, 1))
    np.testing.assert_array_equal(conv(xs, weights, NCHW, padding=((2, 2), (2, 2))), reference)


@pytest.mark.parametrize(
    ("ours", "strides", "padding", "input_dilation", "kernel_dilation"),
    [
        ({"padding": "SAME"}, (1, 1), "SAME", (1, 1), (1, 1)),
        ({"padding": "VALID"}, (1, 1), "VALID", (1, 1), (1, 1)),
        ({"padding": "SAME", "strides": 2}, (2, 2), "SAME", (1, 1), (1, 1)),
        ({"padding": "VALID", "kernel_dilation": 12}, (1, 1), "VALID", (1, 1), (12, 12)),
        ({"padding": 0, "input_dilation": 2}, (1, 1), ((0, 0), (0, 0)), (2, 2), (1, 1)),
    ],
    ids=["same", "valid", "strides", "atrous", "transposed"],
)
def test_dimension_numbers(image, kernel, ours, strides, padding, input_dilation, kernel_dilation):
    numbers = lax.conv_dimension_numbers(image.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
    reference = lax.conv_general_dilated(
        image, kernel, strides, padding, input_dilation, kernel_dilation, numbers
    )
    np.testing.assert_array_equal(conv(image, kernel, NHWC, **ours), reference)


def test_transposed_convolution_doubles_the_image(image, kernel):
    flipped = jnp.flip(kernel, (0, 1))
    reference = lax.conv_general_dilated(
        image, flipped, (1, 1), ((2, 1), (2, 1)), (2, 2), dimension_numbers=NHWC.dimension_numbers
    )
    ys = conv_transpose(image, flipped, NHWC, strides=2)
    np.testing.assert_array_equal(ys, reference)
    assert ys.shape == (1, 80, 76, 3)


def test_one_dimension():
    kernel = jnp.array([[[1, 0, -1], [-1, 0, 1]], [[1, 1, 1], [-1, -1, -1]]], jnp.float32)
    kernel = jnp.transpose(kernel, (2, 1, 0))
    xs = jnp.zeros((1, 200, 2)).at[:, 60:80, 0].set(1.0)
    layout = ConvLayout("NWC", "WIO", "NWC")
    for ours, strides, dilation in [
        ({}, 1, 1),
        ({"strides": 2}, 2, 1),
        ({"kernel_dilation": 12}, 1, 12),
    ]:
        reference = lax.conv_general_dilated(
            xs, kernel, (strides,), "SAME", (1,), (dilation,), layout.dimension_numbers
        )
        np.testing.assert_array_equal(conv(xs, kernel, layout, **ours), reference)


def test_three_dimensions():
    edge = jnp.array(
        [
            [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
            [[0, -1, 0], [-1, 0, -1], [0, -1, 0]],
            [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        ],
        jnp.float32,
    )[:, :, :, None, None]
    xs = jnp.zeros((1, 12, 12, 12, 1))
    grid = jnp.mgrid[0:1:12j, 0:1:12j, 0:1:12j]
    xs = xs + jnp.sin(2 * jnp.pi * grid.prod(0))[None, ..., None]
    layout = ConvLayout("NHWDC", "HWDIO", "NHWDC")
    reference = lax.conv_general_dilated(
        xs, edge, (1, 1, 1), "SAME", (1, 1, 1), (1, 1, 1), layout.dimension_numbers
    )
    np.testing.assert_array_equal(conv(xs, edge, layout), reference)


def test_bad_smoothing():
    with pytest.raises(ValueError, match="as many axes"):
        smooth(jnp.ones((3, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match="mode must be"):
        smooth(jnp.ones(3), jnp.ones(3), mode="wrap")
    with pytest.raises(ValueError, match="size must be at least 1"):
        moving_average(jnp.ones(3), 0)
    with pytest.raises(ValueError, match="scale must be positive"):
        gaussian_window(0.0)
