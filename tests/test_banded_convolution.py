"""A small convolution as banded products: the definition's numbers, and where it is taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg
from jacreg import _convolution
from jacreg._banded_convolution import convolve_banded, is_banded
from models.conv import ConvLayout


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

    def definition(xs, kernel):
        return lax.conv_general_dilated(
            xs, kernel, (1, 1), padding, dimension_numbers=layout.dimension_numbers
        )

    (equation,) = jax.make_jaxpr(definition)(xs, kernel).eqns

    def banded(xs, kernel):
        return convolve_banded(xs, kernel, equation.params)

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


def taken(channels=6, images=(2, 14, 14), window=(5, 5), features=16, dtype=jnp.float32, **options):
    xs = jnp.ones((*images, channels), dtype)
    groups = options.get("feature_group_count", 1)
    kernel = jnp.ones((*window, channels // groups, features), dtype)
    options = {"window_strides": (1, 1), "padding": "SAME", **options}
    (equation,) = jax.make_jaxpr(
        lambda xs, kernel: lax.conv_general_dilated(
            xs, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
        )
    )(xs, kernel).eqns
    return is_banded(*(each.aval for each in equation.invars), equation.params)


def test_it_is_taken_where_it_pays_and_only_there():
    assert taken()
    for options in (
        {"window_strides": (2, 2)},
        {"rhs_dilation": (2, 1)},
        {"lhs_dilation": (1, 2), "padding": ((2, 2), (2, 2))},
        {"window": (3, 3)},
        {"channels": 16},
        {"features": 32},
        {"padding": ((-1, 0), (0, 0))},
        {"feature_group_count": 2},
        {"batch_group_count": 2},
        {"dtype": jnp.bfloat16},
        {"images": (0, 14, 14)},
        {"images": (2, 4, 14), "padding": "VALID"},
    ):
        assert not taken(**options), options


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_the_platform_decides_for_networks_of_any_library(platform):
    """A penalised step of a plain convolution, lowered for either platform on either machine."""
    xs = jax.random.normal(jax.random.key(0), (4, 12, 12, 1))
    kernel = jax.random.normal(jax.random.key(1), (5, 5, 1, 6))

    def loss(kernel):
        def network(xs):
            ys = lax.conv_general_dilated(
                xs, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return jnp.tanh(ys).sum((1, 2))

        lin = jacreg.linearize(network, xs)
        return jnp.mean(jacreg.losses.jacobian_penalty(lin, key=jax.random.key(2)))

    traced = jax.jit(jax.grad(loss)).trace(kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "cuda")


def test_who_reads_a_program_sees_the_convolution():
    xs, kernel = jnp.ones((2, 8, 8, 2)), jnp.ones((3, 3, 2, 2))
    plain = functools.partial(
        lax.conv_general_dilated, window_strides=(1, 1), padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip

    def scanned(xs):
        return lax.scan(lambda h, _: (plain(h, kernel), None), plain(xs, kernel), length=2)[0]

    products = jax.make_jaxpr(_convolution.as_products(scanned))(xs)
    assert str(products).count("jacreg_convolution") == 2
    read = _convolution.as_written(products)
    assert "jacreg_convolution" not in str(read)
    assert str(read).count("= conv_general_dilated") == 2
    np.testing.assert_array_equal(jax.jit(jax.extend.core.jaxpr_as_fun(read))(xs)[0], scanned(xs))
