"""The convolution that jacreg differentiates: the numbers of JAX, and programs with kernels."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg
from jacreg import _convolution
from jacreg._flops import count_flops

LAYOUTS = [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NHWC"), ("HWNC", "IHOW", "CNHW")]
CONVOLUTIONS = {
    "stride": {"window_strides": (2, 2), "padding": ((1, 1), (0, 1))},
    "no padding": {"window_strides": (1, 1), "padding": ((0, 0), (0, 0))},
    "cut": {"window_strides": (2, 2), "padding": ((-1, 1), (1, -1))},
    "dilated": {"window_strides": (2, 1), "padding": ((1, 1), (2, 2)), "rhs_dilation": (2, 1)},
    "groups": {"window_strides": (2, 2), "padding": ((1, 1), (1, 1)), "feature_group_count": 2},
    "spread": {"window_strides": (1, 1), "padding": ((1, 2), (0, 1)), "lhs_dilation": (2, 2)},
    "spread groups": {
        "window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "lhs_dilation": (2, 1),
        "feature_group_count": 2,
    },
    "spread and stride": {
        "window_strides": (2, 2), "padding": ((1, 1), (1, 1)), "lhs_dilation": (2, 1),
    },
    "batch groups": {
        "window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "batch_group_count": 2,
    },
}  # fmt: skip


class Case:
    """A convolution as JAX has it and as ours, with images and a kernel for it."""

    def __init__(self, layout, options, dtype=jnp.float64):
        groups = options.get("feature_group_count", 1)
        sizes = ({"N": 2, "H": 7, "W": 6, "C": 4}, {"H": 3, "W": 2, "I": 4 // groups, "O": 6})
        keys = jax.random.split(jax.random.key(0), 3)
        self.images, self.kernel = (
            jax.random.normal(key, [size[letter] for letter in letters], dtype)
            for key, size, letters in zip(keys, sizes, layout, strict=False)
        )
        self.plain = partial(lax.conv_general_dilated, dimension_numbers=layout, **options)
        program = jax.make_jaxpr(self.plain)(self.images, self.kernel)
        self.ours = lambda *args: _convolution.run_with_products(program, *args)[0]
        out = self.plain(self.images, self.kernel)
        self.cotangent = jax.random.normal(keys[2], out.shape, out.dtype)
        self.args = (self.images, self.kernel, self.cotangent)


def same(found, truth):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)

    jax.tree.map(check, found, truth)


def penalty(convolve, images, kernel, cotangent):
    """A norm of J^T u beside the convolution itself."""
    pull = jax.vjp(lambda images: convolve(images, kernel), jnp.sin(images))[1]
    return jnp.sum(pull(cotangent)[0] ** 2) + jnp.sum(convolve(images, kernel) * cotangent)


def second(convolve, *args):
    """The gradient of the squared gradient: every product, and each of their derivatives."""
    first = jax.grad(partial(penalty, convolve), (0, 1, 2))
    return jax.grad(lambda *args: sum(jnp.sum(g**2) for g in first(*args)), (0, 1, 2))(*args)


# Every kind once, those that differ most in every layout.
CASES = [(kind, 1) for kind in CONVOLUTIONS] + [("stride", 0), ("spread groups", 2), ("groups", 2)]


@pytest.fixture(params=CASES, ids=str)
def case(request, x64):
    kind, number = request.param
    return Case(LAYOUTS[number], CONVOLUTIONS[kind])


def test_values_and_derivatives_are_those_of_jax(case):
    assert "jacreg_convolution" in str(jax.make_jaxpr(case.ours)(case.images, case.kernel))
    same(case.ours(case.images, case.kernel), case.plain(case.images, case.kernel))
    same(
        jax.jit(partial(second, case.ours))(*case.args),
        jax.jit(partial(second, case.plain))(*case.args),
    )


@pytest.mark.parametrize("kind", ["stride", "spread groups", "batch groups"])
def test_batches_of_each_operand(kind, x64):
    """Of images and cotangents they join the examples; gradients are taken inside and outside."""
    case = Case(LAYOUTS[1], CONVOLUTIONS[kind])
    batches = [jnp.stack([each, each + 1], axis=1) for each in case.args]
    for axes in ((1, None, None), (None, 1, None), (None, None, 1), (1, 1, 1)):
        args = [b if axis else a for a, b, axis in zip(case.args, batches, axes, strict=True)]

        def both(convolve, *args, axes=axes):
            one = partial(penalty, convolve)
            inside = jax.vmap(jax.grad(one, 1), axes, 1)(*args)
            return inside, jax.grad(lambda *args: jnp.sum(jax.vmap(one, axes)(*args)), 1)(*args)

        same(jax.jit(partial(both, case.ours))(*args), jax.jit(partial(both, case.plain))(*args))


def test_forward_over_reverse_and_forward(x64):
    case = Case(LAYOUTS[0], CONVOLUTIONS["stride"])

    def along(convolve):
        def gradient(t):
            return jax.grad(partial(penalty, convolve), 1)(t * case.images, *case.args[1:])

        def value(t):
            return convolve(t * case.images, t * case.kernel)

        return jax.jacfwd(gradient)(1.5), jax.jacfwd(jax.jacfwd(value))(1.5)

    same(along(case.ours), along(case.plain))


def windows(fn, *args):
    """Of each convolution in the compiled program: its window and its layout."""
    text = jax.jit(fn).lower(*args).compile().as_text()
    return re.findall(r" convolution\(.*?window=\{(.*?)\}, dim_labels=([^,\s]+)", text)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other backends need nothing of it")
@pytest.mark.parametrize("kind", ["stride", "no padding"])
def test_no_convolution_without_a_kernel_is_left(kind):
    """What JAX writes has one with a reversed window; in a loop, ones of other layouts, too."""
    case = Case(LAYOUTS[0], CONVOLUTIONS[kind], jnp.float32)

    def gradient(convolve, images, kernel, cotangent):
        return jax.grad(lambda kernel: penalty(convolve, images, kernel, cotangent))(kernel)

    def loop(convolve, *args):
        return lax.map(lambda t: gradient(convolve, args[0], t * args[1], args[2]), jnp.arange(3.0))

    reversed_or_odd = {
        (fn, convolve): [w for w in windows(partial(fn, convolve), *case.args)
                         if "rhs_reversal" in w[0] or w[1] != "b01f_01io->b01f"]
        for fn in (gradient, loop) for convolve in (case.plain, case.ours)
    }  # fmt: skip
    for fn in (gradient, loop):
        assert reversed_or_odd[fn, case.plain]
        assert not reversed_or_odd[fn, case.ours]


def strided(kernel, xs):
    found = lax.conv_general_dilated(
        jnp.sin(xs), kernel, (2, 2), "SAME", dimension_numbers=LAYOUTS[0]
    )
    return jnp.tanh(found).reshape(len(xs), 36)[:, :5]


class TestLinearization:
    xs = jax.random.normal(jax.random.key(1), (3, 6, 5, 2))
    kernel = jax.random.normal(jax.random.key(2), (3, 3, 2, 4)) / 4

    def test_a_gradient_by_the_weights(self, x64):
        xs, kernel = self.xs.astype(float), self.kernel.astype(float)

        def ours(kernel):
            lin = jacreg.linearize(partial(strided, kernel), xs)
            return jnp.sum(jacreg.frobenius_squared(lin, jacreg.Exact(chunk_size=2)))

        def dense(kernel):
            return jnp.sum(jax.vmap(jax.jacrev(lambda x: strided(kernel, x[None])[0]))(xs) ** 2)

        same(jax.jit(jax.value_and_grad(ours))(kernel), jax.jit(jax.value_and_grad(dense))(kernel))

    def test_the_basis_is_multiplied_once_for_all_examples(self):
        """In the first layer that it meets, as `vmap(jacrev)` does."""

        def fn(xs):
            found = lax.conv_general_dilated(
                xs, self.kernel, (1, 1), "VALID", dimension_numbers=LAYOUTS[0]
            )
            return jnp.sin(found)

        def columns(xs):
            lin = jacreg.linearize(fn, xs, mode="forward")
            return jacreg.jacobian(lin, jacreg.Exact(60))

        program = str(jax.make_jaxpr(columns)(self.xs))
        assert "jacreg_convolution" in program
        expected = jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0]))(self.xs)
        np.testing.assert_allclose(columns(self.xs), expected, atol=1e-6)
        # Images [60, 6, 5, 2], not [3 * 60, 6, 5, 2].
        assert "f32[60,6,5,2]" in program
        assert "f32[180,6,5,2]" not in program

    def test_operations_are_counted(self):
        def plain(u, xs):
            return jax.vjp(partial(strided, self.kernel), xs)[1](u)[0]

        def ours(u, xs):
            return jacreg.linearize(partial(strided, self.kernel), xs).vjp(u)

        u = jnp.ones((3, 5))
        found, convolution = (count_flops(f, u, self.xs) for f in (ours, plain))
        # JAX's counts the zeros of the image that is spread out, four times as many.
        assert found < convolution < 5 * found

    def test_it_stays_a_pytree_under_jit_and_export(self):
        lin = jax.jit(lambda xs: jacreg.linearize(partial(strided, self.kernel), xs))(self.xs)
        u = jnp.ones((3, 5))
        expected = jax.vjp(partial(strided, self.kernel), self.xs)[1](u)[0]
        np.testing.assert_allclose(lin.vjp(u), expected, atol=1e-5)
        exported = jax.export.export(jax.jit(lambda xs: lin.vjp(u) + xs))(self.xs)
        np.testing.assert_allclose(exported.call(self.xs), expected + self.xs, atol=1e-5)

    def test_a_function_that_takes_a_product_is_read_as_one_of_jax(self):
        """The gradient of an energy by jacreg has the colours of that by JAX."""

        def energy(xs):
            numbers = dict(window_strides=(1, 1), padding="SAME", dimension_numbers=LAYOUTS[0])
            return jnp.sum(
                jnp.tanh(lax.conv_general_dilated(xs, self.kernel, **numbers)), (1, 2, 3)
            )

        def ours(xs):
            lin = jacreg.linearize(energy, xs)
            return lin.vjp(jnp.ones(len(xs)))

        def plain(xs):
            return jax.grad(lambda xs: jnp.sum(energy(xs)))(xs)

        xs = jnp.zeros((1, 12, 12, 2))
        found, expected = (jacreg.color(fn, xs) for fn in (ours, plain))
        assert found.num_colors == expected.num_colors < xs.size

    @pytest.mark.parametrize("within", ["checkpoint", "scan", "jit"])
    def test_those_in_programs_inside_are_ours_too(self, within, x64):
        """Also where the gradient of several probes runs in a loop."""
        xs, kernel = self.xs.astype(float), self.kernel.astype(float)[..., :2]

        def block(kernel, xs):
            return jnp.tanh(
                lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", dimension_numbers=LAYOUTS[0])
            )

        def fn(kernel, xs):
            if within == "scan":
                kernels = jnp.stack([kernel, 2 * kernel])
                xs, _ = lax.scan(lambda xs, kernel: (block(kernel, xs), None), xs, kernels)
            else:
                wrap = {"checkpoint": jax.checkpoint, "jit": jax.jit}[within]
                xs = wrap(partial(block, 2 * kernel))(wrap(partial(block, kernel))(xs))
            return xs.reshape(len(xs), -1)

        def ours(kernel):
            lin = jacreg.linearize(partial(fn, kernel), xs)
            return jnp.sum(jacreg.frobenius_squared(lin, jacreg.Exact(chunk_size=1)))

        def dense(kernel):
            return jnp.sum(jax.vmap(jax.jacrev(lambda x: fn(kernel, x[None])[0]))(xs) ** 2)

        program = str(jax.make_jaxpr(lambda u: jacreg.linearize(partial(fn, kernel), xs).vjp(u))(
            jnp.ones((3, 60))
        ))  # fmt: skip
        assert "jacreg_convolution" in program
        same(jax.jit(jax.value_and_grad(ours))(kernel), jax.jit(jax.value_and_grad(dense))(kernel))

    def test_a_sample_that_evaluates_the_network_has_them_in_its_loop(self):
        method = jacreg.NoiseInjection(scale=0.1, num_probes=3)

        def norms(xs):
            lin = jacreg.linearize(partial(strided, self.kernel), xs)
            return jacreg.frobenius_squared(lin, method, key=jax.random.key(0))

        assert "jacreg_convolution" in str(jax.make_jaxpr(norms)(self.xs))

    def test_no_examples_and_one_device_in_a_shard_map(self):
        def norm(kernel, xs):
            lin = jacreg.linearize(partial(strided, kernel), xs)
            return jnp.sum(jacreg.frobenius_squared(lin, jacreg.Exact()))

        np.testing.assert_array_equal(jax.grad(norm)(self.kernel, self.xs[:0]), 0 * self.kernel)
        mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
        rows = jax.sharding.PartitionSpec("d")
        pull = jax.shard_map(
            lambda xs, us: jacreg.linearize(partial(strided, self.kernel), xs).vjp(us),
            mesh=mesh, in_specs=(rows, rows), out_specs=rows,
        )  # fmt: skip
        us = jnp.ones((3, 5))
        expected = jax.vjp(partial(strided, self.kernel), self.xs)[1](us)[0]
        np.testing.assert_allclose(jax.jit(pull)(self.xs, us), expected, atol=1e-5)
