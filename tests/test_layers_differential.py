"""Differential networks against jax.jacfwd, in float64, in nnx and Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.nnx

pytestmark = pytest.mark.usefixtures("x64")
XS = np.random.default_rng(0).normal(size=(5, 3))
ACTIVATIONS = [("relu", 1.0), ("softplus", 1.0), ("softplus", 7.0), ("tanh", 1.0), ("cos", 1.0)]


def network(framework, activation, beta):
    """A batched (y, dy/dx) and the trees of its parameters."""
    if framework == "nnx":
        net = jacreg.nnx.DifferentialMLP(
            3, 2, hidden_features=(8, 7), activation=activation, beta=beta,
            param_dtype=jnp.float64, rngs=nnx.Rngs(0),
        )  # fmt: skip
        return jacreg.nnx.functional(net)
    net = jacreg.eqx.DifferentialMLP(
        3, 2, 8, 2, activation=activation, beta=beta, dtype=jnp.float64, key=jax.random.key(0)
    )
    return jacreg.eqx.functional(net)


@pytest.mark.parametrize("framework", ["nnx", "equinox"])
@pytest.mark.parametrize(("activation", "beta"), ACTIVATIONS)
def test_value_and_jacobian_equal_forward_mode(framework, activation, beta):
    params, state, apply = network(framework, activation, beta)

    @jax.jit
    def run(xs):
        (ys, carried), _ = apply(params, state, xs)

        def one(x):
            return apply(params, state, x[None])[0][0][0]

        return ys, carried, jax.vmap(one)(xs), jax.vmap(jax.jacfwd(one))(xs)

    ys, carried, expected, jacobian = run(jnp.asarray(XS))
    assert carried.shape == (5, 2, 3)  # Z[i, j, k] = dY[i, j] / dX[i, k]
    np.testing.assert_allclose(ys, expected, rtol=1e-12)
    np.testing.assert_allclose(carried, jacobian, rtol=1e-10, atol=1e-14)
    assert np.abs(jacobian).max() > 1e-2


@pytest.mark.parametrize("framework", ["nnx", "equinox"])
def test_the_jacobian_can_be_trained(framework):
    """The gradient of a loss on dy/dx, by central differences: it goes through phi''."""
    params, state, apply = network(framework, "softplus", 2.0)

    @jax.jit
    def loss(params):
        (ys, jacobian), _ = apply(params, state, jnp.asarray(XS))
        return (ys**2).sum() + (jacobian**2).sum()

    direction = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
    gradient = jax.jit(jax.grad(loss))(params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    ahead, behind = (
        loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-7)


def test_equal_weights_equal_numbers():
    ours = jacreg.nnx.DifferentialDense(
        3, 4, activation="tanh", param_dtype=jnp.float64, rngs=nnx.Rngs(0)
    )
    other = jacreg.eqx.DifferentialDense(
        3, 4, activation="tanh", dtype=jnp.float64, key=jax.random.key(0)
    )
    weights = ours.linear.kernel[...].T, ours.linear.bias[...]
    other = eqx.tree_at(lambda m: (m.linear.weight, m.linear.bias), other, weights)
    before = np.random.default_rng(1).normal(size=(5, 3, 6))
    for a, b in zip(ours(XS, before), jax.vmap(other)(XS, before), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    for a, b in zip(ours(XS), jax.vmap(other)(XS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_only_smooth_activations_have_a_second_derivative():
    """A relu network's Jacobian is piecewise constant."""
    for activation, smooth in (("relu", False), ("softplus", True), ("cos", True)):
        params, state, apply = network("equinox", activation, 1.0)
        jacobian = lambda x: apply(params, state, x[None])[0][1]  # noqa: B023, E731
        hessian = jax.jit(jax.jacfwd(jacobian))(jnp.asarray(XS[0]))
        assert (np.abs(hessian).max() > 1e-3) == smooth


def test_bad_arguments():
    for make in (
        lambda **o: jacreg.nnx.DifferentialDense(3, 4, rngs=nnx.Rngs(0), **o),
        lambda **o: jacreg.eqx.DifferentialMLP(3, 4, key=jax.random.key(0), **o),
    ):
        with pytest.raises(ValueError, match="activation must be one of"):
            make(activation="swish")
        with pytest.raises(ValueError, match="beta must be positive"):
            make(beta=0.0)
    layer = jacreg.nnx.DifferentialDense(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"must have shape \(5, 3, 'D'\), got \(5, 2, 6\)"):
        layer(XS, np.ones((5, 2, 6)))
