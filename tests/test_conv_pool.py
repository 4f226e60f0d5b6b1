"""Pooling in any layout against windows taken one by one."""

import itertools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from models.conv import ConvLayout, average_pool, global_average_pool, max_pool, transpose_axes

LAYOUTS = [
    ("NHWC", "HWIO", "NHWC"),
    ("NCHW", "OIHW", "NCHW"),
    ("HWCN", "HWOI", "CNHW"),
    ("NHWC", "HWIO", "NCHW"),
]


def windows(xs, window, strides, pads):
    """Each window of an NHWC batch, without its padding, and its place."""
    height, width = xs.shape[1:3]
    rows = range(-pads[0][0], height + pads[0][1] - window[0] + 1, strides[0])
    columns = range(-pads[1][0], width + pads[1][1] - window[1] + 1, strides[1])
    for (i, top), (j, left) in itertools.product(enumerate(rows), enumerate(columns)):
        rows_in = slice(max(top, 0), top + window[0])
        yield i, j, np.asarray(xs)[:, rows_in, max(left, 0) : left + window[1]]


def slow_pool(xs, reduce, window, strides, pads):
    found = {(i, j): reduce(cut, (1, 2)) for i, j, cut in windows(xs, window, strides, pads)}
    height, width = (1 + max(place[axis] for place in found) for axis in (0, 1))
    rows = [np.stack([found[i, j] for j in range(width)], 1) for i in range(height)]
    return np.stack(rows, 1)


@pytest.mark.parametrize("parts", LAYOUTS)
@pytest.mark.parametrize(
    ("window", "strides", "padding", "pads"),
    [
        ((2, 3), None, "VALID", ((0, 0), (0, 0))),
        ((2, 2), None, "VALID", ((0, 0), (0, 0))),
        ((3, 3), (2, 2), "SAME", ((0, 1), (1, 1))),
        ((3, 2), (1, 1), ((1, 0), (0, 1)), ((1, 0), (0, 1))),
    ],
)
@pytest.mark.parametrize(("pool", "reduce"), [(max_pool, np.max), (average_pool, np.mean)])
def test_against_windows_one_by_one(parts, window, strides, padding, pads, pool, reduce):
    layout = ConvLayout(*parts)
    xs = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    expected = slow_pool(xs, reduce, window, strides or window, pads)
    got = pool(
        transpose_axes(xs, "NHWC", layout.inputs), window, layout, strides=strides, padding=padding
    )
    got = transpose_axes(got, layout.outputs, "NHWC")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_tiles_and_overlapping_windows_have_equal_derivatives(pool, x64):
    xs = jax.random.normal(jax.random.key(0), (2, 8, 6, 3), jnp.float64)

    def tiled(xs):
        return jnp.sum(pool(jnp.tanh(xs), 2) ** 3)

    def windowed(xs):
        # A last row that no window reaches keeps the tiles from being seen.
        longer = jnp.pad(jnp.tanh(xs), ((0, 0), (0, 1), (0, 0), (0, 0)))
        return jnp.sum(pool(longer, 2) ** 3)

    np.testing.assert_allclose(tiled(xs), windowed(xs), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(tiled)(xs), jax.grad(windowed)(xs), rtol=1e-9)

    def curvature(f):
        return jax.jit(lambda xs: jax.jvp(jax.grad(f), (xs,), (jnp.cos(xs),))[1])

    np.testing.assert_allclose(curvature(tiled)(xs), curvature(windowed)(xs), rtol=1e-9, atol=1e-12)
    jax.test_util.check_grads(jax.jit(tiled), (xs,), order=2, modes=["rev"], rtol=1e-4)


def test_average_of_a_constant_is_constant_at_the_border():
    ones = jnp.ones((1, 5, 5, 1))
    np.testing.assert_allclose(average_pool(ones, 3, strides=1, padding="SAME"), ones)
    counted = average_pool(ones, 3, strides=1, padding="SAME", count_padding=True)
    np.testing.assert_allclose(counted[0, 0, 0, 0], 4 / 9, rtol=1e-6)


def test_one_and_three_dimensions():
    line = jnp.arange(12.0).reshape(2, 6, 1)
    layout = ConvLayout("NWC", "WIO", "NWC")
    np.testing.assert_array_equal(max_pool(line, 3, layout)[..., 0], [[2, 5], [8, 11]])
    volume = jnp.arange(64.0).reshape(1, 1, 4, 4, 4)
    layout = ConvLayout("NCDHW", "DHWIO", "NCDHW")
    np.testing.assert_array_equal(average_pool(volume, 4, layout).ravel(), [31.5])


@pytest.mark.parametrize("parts", LAYOUTS)
def test_global_average(parts):
    xs = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    layout = ConvLayout(*parts)
    got = global_average_pool(transpose_axes(xs, "NHWC", layout.inputs), layout)
    np.testing.assert_allclose(got, xs.mean((1, 2)), atol=1e-6)


def test_bad_input():
    xs = jnp.ones((1, 4, 4, 1))
    with pytest.raises(TypeError, match="got int32: cast"):
        max_pool(xs.astype(int), 2)
    with pytest.raises(ValueError, match="4 axes 'NHWC'"):
        max_pool(xs[0], 2)
    with pytest.raises(ValueError, match="window must be at least 1"):
        average_pool(xs, 0)
    with pytest.raises(ValueError, match="window spans 5 along H"):
        max_pool(xs, 5)
    with pytest.raises(ValueError, match="may not be negative"):
        max_pool(xs, 2, padding=((-1, 0), (0, 0)))
    with pytest.raises(ValueError, match="padding alone"):
        average_pool(xs, 2, padding=2)
