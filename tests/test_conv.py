"""conv and conv_transpose against lax, in every layout, with every argument."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from models.conv import ConvLayout, conv, conv_transpose, transpose_axes

CANONICAL = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
SIZES = {"W": 9, "H": 7, "D": 5}


def arrays(layout: ConvLayout, *, batch=2, inputs=4, outputs=6, window=3, groups=1):
    """A batch and a kernel in the layout's order, the same numbers in every layout."""
    canonical = layout.canonical
    shape = [batch, *(SIZES[letter] for letter in canonical.inputs[1:-1]), inputs]
    kernel_shape = [window] * len(layout.spatial_dims) + [inputs // groups, outputs]
    xs = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), kernel_shape)
    return (
        transpose_axes(xs, canonical.inputs, layout.inputs),
        transpose_axes(kernel, canonical.kernel, layout.kernel),
    )


def permutation(letters):
    return st.permutations(letters).map("".join)


@st.composite
def layouts(draw):
    spatial = "DHW"[3 - draw(st.integers(1, 3)) :]
    return ConvLayout(
        draw(permutation("NC" + spatial)),
        draw(permutation("IO" + spatial)),
        draw(permutation("NC" + spatial)),
    )


@settings(max_examples=12, deadline=None)
@given(layouts(), st.data())
def test_every_layout_is_the_same_convolution(layout, data):
    # One number a letter, so that both calls convolve alike whatever the kernel's order is.
    dims = layout.spatial_dims
    strides = {letter: data.draw(st.integers(1, 3)) for letter in dims}
    dilation = {letter: data.draw(st.integers(1, 2)) for letter in dims}
    spread = {letter: data.draw(st.integers(1, 2)) for letter in dims}
    pads = {letter: (data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for letter in dims}
    named = data.draw(st.sampled_from(["SAME", "SAME_LOWER", "VALID", "explicit"]))
    groups = data.draw(st.sampled_from([1, 2]))
    xs, kernel = arrays(layout, groups=groups)

    def options(order):
        return {
            "strides": tuple(strides[letter] for letter in order),
            "kernel_dilation": tuple(dilation[letter] for letter in order),
            "input_dilation": tuple(spread[letter] for letter in order),
            "padding": tuple(pads[letter] for letter in order) if named == "explicit" else named,
            "groups": groups,
        }

    ys = conv(xs, kernel, layout, **options(dims))
    canonical = layout.canonical
    reference = conv(*arrays(canonical, groups=groups), canonical, **options(canonical.kernel[:-2]))
    ys = transpose_axes(ys, layout.outputs, canonical.outputs)
    np.testing.assert_allclose(ys, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID", "SAME_LOWER", "same"])
@pytest.mark.parametrize("stride", [1, 2])
def test_is_lax_for_named_padding(dims, padding, stride):
    layout = ConvLayout(*CANONICAL[dims])
    xs, kernel = arrays(layout)
    ys = conv(xs, kernel, layout, strides=stride, padding=padding)
    reference = lax.conv_general_dilated(
        xs, kernel, (stride,) * dims, padding.upper(), dimension_numbers=CANONICAL[dims]
    )
    np.testing.assert_array_equal(ys, reference)


def test_padding_as_integer_integers_and_pairs():
    xs, kernel = arrays(ConvLayout())
    both = conv(xs, kernel, padding=((2, 2), (2, 2)))
    np.testing.assert_array_equal(conv(xs, kernel, padding=2), both)
    np.testing.assert_array_equal(conv(xs, kernel, padding=[2, (2, 2)]), both)
    np.testing.assert_array_equal(conv(xs, kernel, padding=np.int64(2)), both)
    cropped = conv(xs, kernel, padding=((-1, 0), (0, -2)))
    np.testing.assert_allclose(cropped, conv(xs[:, 1:, :-2], kernel, padding="VALID"), atol=1e-5)


def test_same_padding_counts_the_dilated_input():
    layout = ConvLayout()
    xs, kernel = arrays(layout)
    ys = conv(xs, kernel, layout, input_dilation=2)
    assert ys.shape == (2, 2 * 7 - 1, 2 * 9 - 1, 6)
    spread = jnp.zeros((2, 13, 17, 4)).at[:, ::2, ::2].set(xs)
    np.testing.assert_allclose(ys, conv(spread, kernel, layout), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64, jnp.complex64])
def test_dtype_is_kept(dtype, x64):
    xs, kernel = arrays(ConvLayout())
    ys = conv(xs.astype(dtype), kernel.astype(dtype))
    assert ys.dtype == dtype
    # A network in single precision accepts images in double, as every other JAX layer does.
    assert conv(xs.astype(jnp.float64), kernel.astype(jnp.float32)).dtype == jnp.float64


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID", "pairs"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_conv_transpose_is_lax(dims, padding, stride, transposed):
    layout = ConvLayout(*CANONICAL[dims])
    xs, kernel = arrays(layout, inputs=4, outputs=4)
    pads = ((1, 2),) * dims if padding == "pairs" else padding
    ys = conv_transpose(
        xs, kernel, layout, strides=stride, padding=pads, transpose_kernel=transposed
    )
    reference = lax.conv_transpose(
        xs,
        kernel,
        (stride,) * dims,
        pads,
        dimension_numbers=CANONICAL[dims],
        transpose_kernel=transposed,
    )
    np.testing.assert_allclose(ys, reference, atol=1e-5)
    if padding == "SAME":
        sizes = [SIZES[letter] * stride for letter in layout.canonical.inputs[1:-1]]
        assert list(ys.shape[1:-1]) == sizes


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("parts", [("NHWC", "HWIO", "NHWC"), ("CNWH", "OHIW", "HCNW")])
def test_conv_transpose_is_the_transpose(groups, parts, x64):
    layout = ConvLayout(*parts)
    backward = ConvLayout(layout.outputs, layout.kernel, layout.inputs)
    xs, kernel = arrays(layout, groups=groups)
    for padding in ("SAME", "VALID"):

        def forward(xs, padding=padding):
            return conv(xs, kernel, layout, strides=(2, 3), padding=padding, groups=groups)

        sizes = {"H": 8 if padding == "SAME" else 7, "W": 9}
        xs = jnp.resize(xs, tuple({**sizes, "N": 2, "C": 4}[letter] for letter in layout.inputs))
        ys, pullback = jax.vjp(forward, xs)
        expected = pullback(ys)[0]
        got = conv_transpose(
            ys,
            kernel,
            backward,
            strides=(2, 3),
            padding=padding,
            groups=groups,
            transpose_kernel=True,
        )
        np.testing.assert_allclose(got, expected, atol=1e-9)


def test_second_derivatives_and_vmap(x64):
    layout = ConvLayout("NCW", "OIW", "NCW")
    xs, kernel = arrays(layout)

    def f(xs, kernel):
        return jnp.sum(jnp.tanh(conv(xs, kernel, layout, strides=2)))

    jax.test_util.check_grads(f, (xs, kernel), order=2, rtol=1e-5)
    stacked = jnp.stack([xs, 2 * xs])
    ys = jax.vmap(lambda xs: conv(xs, kernel, layout))(stacked)
    np.testing.assert_allclose(ys[1], 2 * conv(xs, kernel, layout), rtol=1e-9)


def bad(**options):
    xs, kernel = arrays(ConvLayout())
    return conv(options.pop("xs", xs), options.pop("kernel", kernel), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"xs": jnp.ones((2, 7, 9, 4), jnp.uint8)},
            TypeError,
            "point xs, got uint8: cast",
        ),
        ({"kernel": np.ones((3, 3, 4, 6), bool)}, TypeError, "floating-point kernel, got bool"),
        ({"xs": jnp.ones((7, 9, 4))}, ValueError, r"4 axes 'NHWC'.*\(7, 9, 4\)"),
        ({"kernel": jnp.ones((3, 4, 6))}, ValueError, "4 axes 'HWIO'"),
        ({"xs": jnp.ones((2, 7, 9, 5))}, ValueError, "5 channels on axis 3 .* takes 4 on axis 2"),
        ({"groups": 2}, ValueError, "takes 4 x 2 groups"),
        ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        ({"groups": 1.5}, TypeError, "groups must be an integer"),
        (
            {"kernel": jnp.ones((3, 3, 1, 6)), "groups": 4},
            ValueError,
            "groups = 4 does not divide the 6 output channels",
        ),
        ({"strides": 0}, ValueError, "strides must be at least 1"),
        ({"strides": (1, 2, 1)}, ValueError, "strides has 3 numbers"),
        ({"strides": 1.0}, TypeError, "strides must be an integer"),
        ({"strides": True}, TypeError, "strides must be an integer"),
        ({"kernel_dilation": -1}, ValueError, "kernel_dilation must be at least 1"),
        ({"input_dilation": (2,)}, ValueError, "input_dilation has 1 numbers"),
        ({"padding": "SAMEE"}, ValueError, "Unknown padding 'SAMEE'"),
        ({"padding": (1, 2, 3)}, ValueError, "padding has 3 entries"),
        ({"padding": ((1, 2, 3), 1)}, ValueError, r"\(low, high\) pair"),
        ({"padding": 0.5}, TypeError, "padding must be an integer"),
        ({"padding": "VALID", "kernel_dilation": 4}, ValueError, "window spans 9 along H"),
        ({"layout": "NHWC"}, TypeError, "list of three strings"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        bad(**options)


def test_bad_input_is_seen_while_tracing():
    xs, kernel = arrays(ConvLayout(), inputs=3)
    with pytest.raises(ValueError, match="channels"):
        jax.jit(lambda xs: conv(xs, kernel[:, :, :2]))(xs)
    with pytest.raises(ValueError, match="Unknown padding 'SAME_LOWER' of a transposed"):
        conv_transpose(xs, kernel, padding="SAME_LOWER")
