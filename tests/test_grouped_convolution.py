"""Convolutions in groups on a CPU: the numbers of JAX, and no convolution in groups is left."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg
from jacreg import _convolution

# Channels in and out, groups, spatial axes, parameters of the convolution.
CASES = {
    "two groups, stride": (4, 6, 2, 2, {"window_strides": (2, 2)}),
    "one output a group": (6, 3, 3, 2, {"window_strides": (1, 2)}),
    "more groups than are unrolled": (34, 34, 17, 1, {}),
    "depthwise": (3, 3, 3, 2, {}),
    "depthwise, stride": (3, 3, 3, 2, {"window_strides": (2, 3)}),
    "depthwise, two outputs each": (3, 6, 3, 2, {"window_strides": (2, 1)}),
    "depthwise, taps apart": (3, 3, 3, 2, {"rhs_dilation": (2, 1), "window_strides": (1, 2)}),
    "depthwise, spread out": (2, 4, 2, 2, {"lhs_dilation": (2, 1), "window_strides": (1, 2)}),
    "depthwise, cut": (3, 3, 3, 2, {"padding": ((-1, 1), (1, -1))}),
    "depthwise, a sequence": (4, 4, 4, 1, {"window_strides": (2,)}),
    "depthwise, a volume": (2, 2, 2, 3, {}),
}
LAYOUTS = {
    1: ("NWC", "WIO", "NWC"),
    2: ("NCHW", "OIHW", "CNHW"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}


def operands(case, dtype=jnp.float64):
    """The convolution as JAX has it, images and a kernel."""
    into, out, groups, rank, options = CASES[case]
    letters = LAYOUTS[rank][0].replace("N", "").replace("C", "")
    sides = dict(zip(letters, (6, 5, 4), strict=False))
    taps = dict(zip(letters, (3, 2, 2), strict=False))
    rng = np.random.default_rng(0)
    sizes = ({"N": 2, "C": into, **sides}, {"I": into // groups, "O": out, **taps})
    images, kernel = (
        rng.normal(size=[size[letter] for letter in layout]).astype(dtype)
        for size, layout in zip(sizes, LAYOUTS[rank], strict=False)
    )
    options = {"window_strides": (1,) * rank, "padding": ((1, 1),) * rank, **options}
    plain = partial(
        lax.conv_general_dilated,
        dimension_numbers=LAYOUTS[rank],
        feature_group_count=groups,
        **options,
    )
    return plain, images, kernel


def of_jacreg(plain, images, kernel):
    program = jax.make_jaxpr(plain)(images, kernel)
    return lambda *args: _convolution.run_with_products(program, *args)[0]


def products(convolve, images, kernel):
    """All three: the result, and what a cotangent of it gives for either operand."""
    out, pull = jax.vjp(convolve, images, kernel)
    return out, *pull(jnp.cos(out))


@pytest.mark.parametrize("case", CASES)
def test_the_three_products_are_those_of_jax(case, x64):
    plain, images, kernel = operands(case)
    ours = of_jacreg(plain, images, kernel)
    found, truth = (jax.jit(partial(products, fn))(images, kernel) for fn in (ours, plain))
    for a, b in zip(found, truth, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def lowered(fn, *args, platform="cpu"):
    return jax.jit(fn).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_a_kernel_that_fits_nowhere_gives_an_empty_image():
    kernel = jnp.ones((1, 3, 1, 2))

    def fn(xs):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            xs, kernel, (2, 2), "VALID", feature_group_count=2, dimension_numbers=layout
        )

    lin = jacreg.linearize(fn, jnp.ones((2, 3, 2, 2)))
    assert lin.value.shape == (2, 2, 0, 2)
    np.testing.assert_array_equal(lin.vjp(lin.value), jnp.zeros((2, 3, 2, 2)))


@pytest.mark.parametrize("case", CASES)
def test_a_program_for_a_cpu_has_no_groups_and_one_for_others_has(case):
    plain, images, kernel = operands(case, jnp.float32)
    ours = partial(products, of_jacreg(plain, images, kernel))
    args = (images, kernel)
    groups = f"feature_group_count = {CASES[case][2]} "
    assert groups in lowered(partial(products, plain), *args)
    text = lowered(ours, *args)
    assert groups not in text
    assert text.count("batch_group_count = 1 ") == text.count("batch_group_count")
    assert groups in lowered(ours, *args, platform="cuda")


@pytest.mark.parametrize(
    "case", ["two groups, stride", "depthwise", "more groups than are unrolled"]
)
def test_what_is_not_finite_stays_in_its_group(case):
    plain, images, kernel = operands(case, jnp.float32)
    channel = LAYOUTS[CASES[case][3]][0].index("C")
    images[(slice(None),) * channel + (0,)] = np.nan
    both = (of_jacreg(plain, images, kernel), plain)
    found, truth = (jax.jit(fn)(images, kernel) for fn in both)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(truth))
    assert not np.isnan(found).all()


def test_narrow_types_are_summed_in_wide_ones():
    plain, images, kernel = operands("depthwise, stride", jnp.bfloat16)
    found = jax.jit(of_jacreg(plain, images, kernel))(images, kernel)
    assert found.dtype == jnp.bfloat16
    truth = plain(images.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_allclose(found.astype(jnp.float32), truth, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("case", ["two groups, stride", "depthwise, two outputs each"])
def test_the_gradient_of_a_penalty_has_none_in_the_forward_pass_either(case, x64):
    plain, images, kernel = operands(case)
    batch = LAYOUTS[2][2].index("N")

    def net(kernel, xs):
        return jnp.moveaxis(jnp.tanh(plain(xs, kernel)), batch, 0)

    def ours(kernel):
        lin = jacreg.linearize(partial(net, kernel), images)
        return jnp.sum(lin.vjp(jnp.ones_like(lin.value)) ** 2) + jnp.sum(lin.value**3)

    def by_jax(kernel):
        value, pull = jax.vjp(partial(net, kernel), images)
        return jnp.sum(pull(jnp.ones_like(value))[0] ** 2) + jnp.sum(value**3)

    groups = f"feature_group_count = {CASES[case][2]} "
    assert groups in lowered(jax.grad(by_jax), kernel)
    assert groups not in lowered(jax.grad(ours), kernel)
    found, truth = (jax.jit(jax.value_and_grad(fn))(kernel) for fn in (ours, by_jax))
    np.testing.assert_allclose(found[0], truth[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], truth[1], atol=1e-10)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
@pytest.mark.parametrize("case", ["two groups, stride", "depthwise, two outputs each"])
def test_a_forward_laplacian_has_none(case, quantity, x64):
    """Nor has its gradient by the kernel: its products are those of Jacobians."""
    plain, images, kernel = operands(case)
    batch = LAYOUTS[2][2].index("N")

    def total(kernel, method):
        lin = jacreg.linearize(
            lambda xs: jnp.sum(
                jnp.moveaxis(jnp.tanh(plain(jnp.sin(xs), kernel)), batch, 0), (1, 2, 3)
            ),
            images,
        )
        assert jacreg.plan(quantity, lin).path == "forward Laplacian"
        return jnp.sum(jnp.cos(quantity(lin, method)))

    ours, exact = (partial(total, method=m) for m in (jacreg.Auto(), jacreg.Exact()))
    groups = f"feature_group_count = {CASES[case][2]} "
    assert groups in lowered(partial(plain, images), kernel)
    assert groups not in lowered(jax.value_and_grad(ours), kernel)
    found, truth = (jax.jit(jax.value_and_grad(fn))(kernel) for fn in (ours, exact))
    np.testing.assert_allclose(found[0], truth[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], truth[1], atol=1e-10)


@pytest.mark.parametrize("which", ["out", "gradient"])
def test_a_sum_over_taps_is_computed_once_for_all_that_read_it(which):
    """Joined with what it is broadcast to, it would be computed for each entry of that."""
    plain, images, kernel = operands("depthwise", jnp.float32)
    ours = of_jacreg(plain, images, kernel)

    def read(images, kernel):
        out, pull = jax.vjp(ours, images, kernel)
        found = out if which == "out" else pull(jnp.sin(out))[0]
        return found * jnp.arange(8.0)[:, None, None, None, None]

    text = jax.jit(read).lower(images, kernel).compile().as_text()
    assert text.count(" conditional(") == (1 if which == "out" else 2)


def test_the_function_called_again_has_none(x64):
    plain, images, kernel = operands("depthwise")
    method, key = jacreg.NoiseInjection(0.1), jax.random.key(0)

    def net(kernel, xs):
        return jnp.moveaxis(jnp.tanh(plain(xs, kernel)), LAYOUTS[2][2].index("N"), 0)

    def ours(kernel):
        lin = jacreg.linearize(partial(net, kernel), images)
        return jnp.sum(jacreg.frobenius_squared(lin, method, key=key))

    def by_jax(kernel):
        penalty = partial(jacreg.losses.noise_injection_penalty, partial(net, kernel), images)
        return jnp.sum(penalty(scale=0.1, key=key))

    groups = f"feature_group_count = {CASES['depthwise'][2]} "
    assert groups in lowered(jax.grad(by_jax), kernel)
    assert groups not in lowered(jax.grad(ours), kernel)
    found, truth = (jax.jit(jax.value_and_grad(fn))(kernel) for fn in (ours, by_jax))
    np.testing.assert_allclose(found[0], truth[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], truth[1], atol=1e-10)
