"""Hessians of energies whose distant entries meet in few values: the gradient's do too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planned import conv

import jacreg

pytestmark = pytest.mark.usefixtures("x64")


def energy(xs, weight=1.3):
    """A convolution, a norm over all and a convolution: 144 entries of x, few of them local."""
    hidden = conv(xs, weight * KERNELS[0])
    mean = hidden.mean((1, 2, 3), keepdims=True)
    hidden = (hidden - mean) / jnp.sqrt(0.1 + hidden.var((1, 2, 3), keepdims=True))
    return jnp.sum(jnp.sin(conv(jnp.tanh(hidden), KERNELS[1])), (1, 2, 3))


KERNELS = [np.random.default_rng(i).normal(size=(3, 3, 1, 1)) for i in range(2)]
SQUARES = np.random.default_rng(3).normal(size=(2, 12, 12, 1))


def deep_energy(xs):
    """Wider windows, so that 81 colours and more serve 144 entries."""
    for _ in range(2):
        hidden = jnp.tanh(conv(jnp.tanh(conv(xs, KERNELS[0])), KERNELS[1]))
        xs = hidden - hidden.mean((1, 2, 3), keepdims=True)
    return jnp.sum(jnp.sin(xs), (1, 2, 3))


def second_derivatives(xs, weight=1.3):
    size = xs[0].size
    hessian = jax.vmap(jax.hessian(lambda x: energy(x.reshape(1, 12, 12, 1), weight)[0]))
    return jnp.einsum("nii->ni", hessian(xs.reshape(len(xs), size)))


class TestHessians:
    """Second order: the gradient of a norm is a norm, and its values are few."""

    def test_second_derivatives_are_those_of_the_dense_hessian(self):
        wanted = second_derivatives(SQUARES)
        lin = jacreg.linearize(energy, SQUARES)
        weights = np.random.default_rng(4).normal(size=(12, 12, 1))
        found = {
            jacreg.laplacian: jacreg.laplacian(lin),
            jacreg.hessian_diagonal: jacreg.hessian_diagonal(lin),
            "weighted": jacreg.laplacian(lin, weights=weights),
        }
        for quantity in (jacreg.laplacian, jacreg.hessian_diagonal):
            plan = jacreg.plan(quantity, lin)
            assert plan.path == "colouring"
            assert 2 * plan.num_products < SQUARES[0].size
        close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)
        close(found[jacreg.laplacian], wanted.sum(1))
        close(found[jacreg.hessian_diagonal].reshape(wanted.shape), wanted)
        close(found["weighted"], wanted @ weights.reshape(-1))

    def test_gradients_are_too(self):
        def own(xs, weight):
            lin = jacreg.linearize(lambda ys: energy(ys, weight), xs)
            return jnp.sum(jacreg.laplacian(lin) ** 2)

        def wanted(xs, weight):
            return jnp.sum(second_derivatives(xs, weight).sum(1) ** 2)

        found = jax.jit(jax.grad(own, (0, 1)))(SQUARES, 1.3)
        want = jax.jit(jax.grad(wanted, (0, 1)))(SQUARES, 1.3)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), found, want)

    @pytest.mark.parametrize(("fn", "xs"), [(energy, SQUARES[:, :8, :8]), (deep_energy, SQUARES)])
    def test_what_has_few_entries_for_its_products_is_carried_forward(self, fn, xs):
        for _ in range(2):
            plan = jacreg.plan(jacreg.laplacian, jacreg.linearize(fn, xs))
            assert plan.path == "forward Laplacian"
