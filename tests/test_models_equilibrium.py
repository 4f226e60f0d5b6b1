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
    solver = EquilibriumSolver("iteration", max_steps=1000)

    def one(rate):
        return solve(lambda z: (rate * z[0] + 1,), (jnp.zeros(1),), solver=solver)

    @jax.jit
    def run(rates):
        batch = jacreg.equilibrium.solve(
            lambda z: (rates[:, None] * z[0] + 1,), (jnp.zeros((3, 1)),), solver=solver
        )
        gradient = jax.grad(lambda rate: one(rate).state[0][0])(rates[1])
        return jax.vmap(one)(rates), batch, gradient

    result, batch, gradient = run(jnp.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(result.state[0], batch.state[0])
    np.testing.assert_array_equal(result.num_evaluations, batch.num_evaluations)
    assert result.converged.shape == (3,)
    np.testing.assert_allclose(gradient, 4.0, rtol=1e-3)


def test_synthetic_model_is_bais(x64):
    model = models.build("equilibrium", key=KEY, tolerance=1e-11, max_steps=200)
    assert model.inner.weight.shape == (50, 1)
    weight = model.inner.weight
    direction = jnp.cos(jnp.arange(weight.size)).reshape(weight.shape)

    def loss(weight, xs):
        changed = eqx.tree_at(lambda m: m.inner.weight, model, weight)
        return jnp.sum(jax.vmap(changed)(xs) ** 2)

    @jax.jit
    def run(x, z, xs):
        hidden = jnp.maximum(weight @ z + model.injection.weight @ x + model.injection.bias, 0)
        by_hand = model.cell(z, model.inject(x)), model.outer.weight @ hidden
        states, injected = jax.vmap(model)(xs), jax.vmap(model.inject)(xs)
        cell = lambda zs: jax.vmap(model.cell)(zs, injected)  # noqa: E731
        penalty = jacreg.losses.equilibrium_jacobian_penalty(cell, states, key=KEY, num_probes=2000)
        slopes = jacreg.jacobian(jacreg.linearize(cell, states))[:, 0, 0]
        moved = [weight + step * direction for step in (1e-5, -1e-5)]
        slope = jnp.vdot(jax.grad(loss)(weight, xs), direction)
        losses = jax.vmap(loss, (0, None))(jnp.stack(moved), xs)
        return by_hand, (cell(states), states), (penalty, slopes), slope, losses

    by_hand, solved, (penalty, slopes), slope, (ahead, behind) = run(
        jnp.array([0.4]), jnp.array([-0.3]), jnp.linspace(-2, 2, 5)[:, None]
    )
    np.testing.assert_allclose(*by_hand)
    np.testing.assert_allclose(*solved, rtol=1e-9)
    # One dimension: J is f'(z), so a Gaussian probe gives f'(z)^2 e^2.
    np.testing.assert_allclose(penalty, np.square(slopes), rtol=0.2)
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-5)


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
        ("equilibrium", {"tolerance": 0.0}, "EquilibriumSolver: tolerance must be positive"),
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
