"""Convolutions in loops, for whose gradients XLA:CPU has kernels in one layout alone."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg
import jacreg.equilibrium
import jacreg.flow

KEYS = jax.random.split(jax.random.key(0), 4)
LAYOUTS = {"last": ("NHWC", "HWIO", "NHWC"), "first": ("NCHW", "OIHW", "NCHW")}


@pytest.fixture(params=list(LAYOUTS))
def layout(request):
    return LAYOUTS[request.param]


def drawn(layout, count=2):
    """Images, and kernels that keep their shape."""
    last = layout[0] == "NHWC"
    shape = (3, 3, 2, 2) if last else (2, 2, 3, 3)
    images = jax.random.normal(KEYS[0], (3, 4, 5, 2) if last else (3, 2, 4, 5))
    return images, jax.random.normal(KEYS[1], (count, *shape)) / 8


def convolve(layout, images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout)


def convolutions_in_loops(jaxpr, inside=False):
    """How many convolutions as JAX writes them stand in the body of a loop."""
    count = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        count += inside and name == "conv_general_dilated"
        for inner in jex.jaxprs_in_params(equation.params):
            count += convolutions_in_loops(inner, inside or name in ("scan", "while"))
    return count


def check(loss, weights, expected=None):
    """No such convolution in the gradient, which is that of the other loss."""
    program = jax.make_jaxpr(jax.grad(loss))(weights).jaxpr
    assert "conv" in str(program)
    assert convolutions_in_loops(program) == 0
    found = jax.jit(jax.grad(loss))(weights)
    if expected is not None:
        np.testing.assert_allclose(found, jax.grad(expected)(weights), rtol=2e-4, atol=1e-6)


def test_the_count_sees_them(layout):
    images, kernels = drawn(layout)

    def loss(kernels):
        return jnp.sum(lax.scan(lambda h, k: (convolve(layout, h, k), None), images, kernels)[0])

    assert convolutions_in_loops(jax.make_jaxpr(jax.grad(loss))(kernels).jaxpr) > 2


def test_layers_that_are_scanned(layout):
    images, kernels = drawn(layout)

    def scanned(kernels, xs):
        def layer(h, kernel):
            return jnp.tanh(convolve(layout, h, kernel)), None

        return lax.scan(layer, xs, kernels)[0]

    def unrolled(kernels, xs):
        for kernel in kernels:
            xs = jnp.tanh(convolve(layout, xs, kernel))
        return xs

    def penalised(network):
        def loss(kernels):
            lin = jacreg.linearize(lambda xs: network(kernels, xs), images)
            norms = jacreg.losses.jacobian_penalty(lin, key=KEYS[2])
            return jnp.mean(norms) + jnp.mean(lin.value**2)

        return loss

    check(penalised(scanned), kernels, penalised(unrolled))


@pytest.mark.parametrize("method", [jacreg.Hutchinson(1), jacreg.Auto()])
def test_the_field_of_a_flow(layout, method):
    images, kernels = drawn(layout)
    solver = jacreg.flow.FlowSolver("rk4", step_size=0.5)

    def loss(kernels):
        def field(xs, ts):
            return convolve(layout, jnp.tanh(convolve(layout, xs, kernels[0])), kernels[1])

        found = jacreg.flow.log_density(field, images, solver=solver, method=method, key=KEYS[2])
        # The trace is planned for the field as it is written.
        assert found.plan.path == ("closed form" if method == jacreg.Auto() else "products")
        return -jnp.mean(found.log_density)

    check(loss, kernels)


def test_samples_of_a_flow(layout):
    images, kernels = drawn(layout)
    solver = jacreg.flow.FlowSolver("rk4", step_size=0.5)

    def loss(kernels):
        def field(xs, ts):
            return jnp.tanh(convolve(layout, xs, kernels[0]))

        found = jacreg.flow.sample(field, images.shape, solver=solver, key=KEYS[3])
        return jnp.mean(found.values**2)

    check(loss, kernels)


def test_the_cell_of_an_equilibrium(layout):
    images, kernels = drawn(layout)
    solver = jacreg.equilibrium.EquilibriumSolver(tolerance=1e-6, backward_tolerance=1e-6)

    def cell(zs, kernels):
        return jnp.tanh(convolve(layout, zs, kernels[0]) + images)

    def loss(kernels):
        found = jacreg.equilibrium.solve(cell, images, kernels, solver=solver)
        return jnp.mean(found.state**2)

    def iterated(kernels):
        zs = images
        for _ in range(40):
            zs = cell(zs, kernels)
        return jnp.mean(zs**2)

    check(loss, kernels, iterated)
