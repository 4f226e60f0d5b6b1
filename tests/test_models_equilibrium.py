"""Equilibrium models: the networks of the papers, in any layout."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.equilibrium
import models
from models.conv import transpose_axes
from models.equilibrium import EquilibriumSolver, solve

KEY = jax.random.key(0)


def test_one_example_at_a_time(x64):
    """The per-example solve of the models is that of the batch, under `jax.vmap` too."""
    rates = jnp.array([0.1, 0.5, 0.9])
    solver = EquilibriumSolver("iteration", max_steps=1000)
    one = lambda rate: solve(lambda z: (rate * z[0] + 1,), (jnp.zeros(1),), solver=solver)  # noqa: E731
    result = jax.vmap(one)(rates)
    batch = jacreg.equilibrium.solve(
        lambda z: (rates[:, None] * z[0] + 1,), (jnp.zeros((3, 1)),), solver=solver
    )
    np.testing.assert_allclose(result.state[0], batch.state[0])
    np.testing.assert_array_equal(result.num_evaluations, batch.num_evaluations)
    assert result.converged.shape == (3,)
    gradient = jax.grad(lambda rate: one(rate).state[0][0])(0.5)
    np.testing.assert_allclose(gradient, 4.0, rtol=1e-3)


def test_synthetic_model_is_bais(x64):
    model = models.build("equilibrium", key=KEY, tolerance=1e-11, max_steps=200)
    assert model.inner.weight.shape == (50, 1)
    x, z = jnp.array([0.4]), jnp.array([-0.3])
    hidden = jnp.maximum(
        model.inner.weight @ z + model.injection.weight @ x + model.injection.bias, 0
    )
    np.testing.assert_allclose(model.cell(z, model.inject(x)), model.outer.weight @ hidden)
    xs = jnp.linspace(-2, 2, 5)[:, None]
    states = jax.jit(jax.vmap(model))(xs)
    injected = jax.vmap(model.inject)(xs)
    cell = lambda zs: jax.vmap(model.cell)(zs, injected)  # noqa: E731
    np.testing.assert_allclose(cell(states), states, rtol=1e-9)
    # One dimension: J is f'(z), so a Gaussian probe gives f'(z)^2 e^2.
    penalty = jacreg.losses.equilibrium_jacobian_penalty(cell, states, key=KEY, num_probes=2000)
    slopes = jacreg.jacobian(jacreg.linearize(cell, states))[:, 0, 0]
    np.testing.assert_allclose(penalty, slopes**2, rtol=0.2)

    weight = model.inner.weight

    def loss(weight):
        changed = eqx.tree_at(lambda m: m.inner.weight, model, weight)
        return jnp.sum(jax.vmap(changed)(xs) ** 2)

    loss = jax.jit(loss)
    gradient = jax.jit(jax.grad(loss))(weight)
    direction = jnp.cos(jnp.arange(weight.size)).reshape(weight.shape)
    difference = (loss(weight + 1e-5 * direction) - loss(weight - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-5)


def test_mdeq_converges_in_any_layout(x64):
    options = {"input_shape": (4, 8, 2), "widths": (2, 4), "groups": 2, "num_classes": 3}
    options |= {"tolerance": 1e-10, "max_steps": 100}
    images = jax.random.normal(KEY, (2, 4, 8, 2))

    def logits(parts, axes):
        model = models.build("mdeq", key=KEY, layout=parts, **options)

        @jax.jit
        def run(xs):
            result = jax.vmap(model.solve)(xs)
            again = jax.vmap(model.cell)(result.state, jax.vmap(model.inject)(xs))
            return result, again, jax.vmap(model.readout)(result.state)

        result, again, ys = run(transpose_axes(images, "NHWC", axes))
        assert result.converged.all()
        for a, b in zip(result.state, again, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)
        return ys

    expected = logits(("NHWC", "HWIO", "NHWC"), "NHWC")
    assert expected.shape == (2, 3)
    got = logits(("CWNH", "OIHW", "NHCW"), "NCWH")
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("equilibrium", {"solver": "andersen"}, "Did you mean 'anderson'"),
        ("equilibrium", {"tolerance": 0.0}, "tolerance of an equilibrium solver must be positive"),
        ("mdeq", {"input_shape": (30, 32, 3)}, "divisible by 4"),
        ("mdeq", {"widths": (6, 8)}, "groups = 4 must divide"),
        ("mdeq", {"widths": ()}, "at least one scale"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, key=KEY, **options)


def test_bad_inputs():
    with pytest.raises(ValueError, match="keep the shape of its state"):
        solve(lambda z: z[:1], jnp.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(1,\), got \(2,\)"):
        models.build("equilibrium", key=KEY)(jnp.ones(2))
