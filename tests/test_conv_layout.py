"""ConvLayout: any order of axes, and one clear error for what is no order."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from models.conv import ConvLayout, transpose_axes


def test_default_is_channels_last():
    layout = ConvLayout()
    assert layout.dimension_numbers == ("NHWC", "HWIO", "NHWC")
    assert layout == ConvLayout.of(None) == ConvLayout.of(["NHWC", "HWIO", "NHWC"])
    assert ConvLayout.of(layout) is layout


def test_is_hashable_and_frozen():
    assert {ConvLayout(): 1}[ConvLayout("NHWC", "HWIO", "NHWC")] == 1
    with pytest.raises(AttributeError):
        ConvLayout().inputs = "NCHW"


@pytest.mark.parametrize(
    ("parts", "spatial"),
    [
        (("NWC", "WIO", "NWC"), "W"),
        (("NCHW", "OIHW", "NCHW"), "HW"),
        (("CWHN", "WOIH", "HNCW"), "WH"),
        (("NHWDC", "HWDIO", "NHWDC"), "HWD"),
        (("NC01", "OI10", "NC01"), "10"),
        (("NTC", "TIO", "CNT"), "T"),
    ],
)
def test_spatial_dims_follow_the_kernel(parts, spatial):
    layout = ConvLayout(*parts)
    assert layout.spatial_dims == spatial
    assert layout.following == ConvLayout(parts[2], parts[1], parts[2])
    assert layout.canonical.kernel == "".join(sorted(spatial)) + "IO"


def test_every_order_of_axes_is_a_layout():
    for inputs in itertools.permutations("NHWC"):
        for kernel in itertools.permutations("HWIO"):
            ConvLayout("".join(inputs), "".join(kernel), "".join(reversed(inputs)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("NHHC", "HWIO", "NHWC"), r"inputs .* 'NHHC' repeats H"),
        (("NHWC", "HWIO", "NHWX"), r"outputs .* lacks C"),
        (("NHWC", "HWCO", "NHWC"), r"kernel .* lacks I"),
        (("NHWC", "HWIO", "HWC"), r"outputs .* lacks N"),
        (("NhwC", "hwIO", "NhwC"), r"inputs .* has 'h', 'w'"),
        (("NHIC", "HWIO", "NHWC"), r"inputs .* has 'I'"),
        (("NC", "IO", "NC"), r"0 spatial letters"),
        (("NABDEC", "ABDEIO", "NABDEC"), r"4 spatial letters"),
        (("NHWC", "HDIO", "NHWC"), r"'HW', kernel 'HDIO' has 'HD'"),
        (("NHWC", "HWDIO", "NHWC"), r"kernel 'HWDIO' has 'HWD'"),
        (("", "HWIO", "NHWC"), r"inputs .* lacks N, C"),
    ],
)
def test_what_is_no_layout(parts, message):
    with pytest.raises(ValueError, match=message):
        ConvLayout(*parts)


def test_wrong_types_of_a_layout():
    with pytest.raises(TypeError, match="string of axis letters, got 3"):
        ConvLayout("NHWC", 3, "NHWC")
    with pytest.raises(TypeError, match="list of three strings"):
        ConvLayout.of("NHWC")
    with pytest.raises(TypeError, match="list of three strings"):
        ConvLayout.of(7)
    with pytest.raises(ValueError, match="got 2"):
        ConvLayout.of(["NHWC", "HWIO"])


def test_transpose_axes_there_and_back():
    xs = jnp.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    ys = transpose_axes(xs, "NHWC", "CWNH")
    assert ys.shape == (5, 4, 2, 3)
    assert ys[4, 2, 1, 0] == xs[1, 0, 2, 4]
    np.testing.assert_array_equal(transpose_axes(ys, "CWNH", "NHWC"), xs)
    with pytest.raises(ValueError, match="not a permutation"):
        transpose_axes(xs, "NHWC", "NHWD")
    with pytest.raises(ValueError, match="3 dimensions"):
        transpose_axes(xs, "NWC", "CWN")


def test_input_shape_is_the_canonical_shape_in_the_layouts_order():
    assert ConvLayout("NCHW", "OIHW", "NCHW").input_shape(8, (28, 14, 1)) == (8, 1, 28, 14)
    assert ConvLayout("HWCN", "HWIO", "HWCN").input_shape(8, (28, 14, 1)) == (28, 14, 1, 8)
    assert ConvLayout("CHWN", "HWIO", "HWCN").example_axes("outputs") == "HWC"
    assert ConvLayout("CHWN", "HWIO", "HWCN").batch_axis == 3
