"""Continuous flows against linear fields with a closed form, and against themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.eqx
import models
from models.flow import FlowSolver, bits_per_dimension, log_density, sample

KEY = jax.random.key(0)
FINE = [FlowSolver("rk4", step_size=0.02), FlowSolver("dopri5", rtol=1e-10, atol=1e-10)]
MATRIX = np.array([[0.3, -0.8, 0.1], [0.5, 0.2, 0.0], [0.0, 0.4, -0.9]])


def linear(xs, ts):
    return xs @ jnp.asarray(MATRIX.T, xs.dtype)


@pytest.mark.parametrize("solver", FINE, ids=["rk4", "dopri5"])
@pytest.mark.parametrize("regularize", [False, True])
def test_linear_field_has_a_closed_form(solver, regularize, x64):
    xs = jax.random.normal(KEY, (4, 3))
    result = jax.jit(lambda xs: log_density(linear, xs, solver=solver, regularize=regularize))(xs)
    latents = xs @ jax.scipy.linalg.expm(MATRIX).T
    base = jax.scipy.stats.norm.logpdf(latents).sum(1)
    np.testing.assert_allclose(result.values, latents, rtol=1e-6)
    np.testing.assert_allclose(result.log_density, base + jnp.trace(MATRIX), rtol=1e-6)
    assert result.converged
    if regularize:
        np.testing.assert_allclose(result.frobenius_squared, jnp.sum(MATRIX**2), rtol=1e-6)
        times = jnp.linspace(0, 1, 2001)
        paths = jax.vmap(lambda t: xs @ jax.scipy.linalg.expm(t * MATRIX).T)(times)
        speeds = jnp.sum((paths @ MATRIX.T) ** 2, 2)
        energy = jax.scipy.integrate.trapezoid(speeds, times, axis=0)
        np.testing.assert_allclose(result.kinetic_energy, energy, rtol=1e-6)
    else:
        assert result.kinetic_energy is None
        assert result.frobenius_squared is None


def test_the_norm_above_the_dense_dimensions_is_the_same(x64, monkeypatch):
    xs = jax.random.normal(KEY, (2, 3))
    solver = FlowSolver("rk4", step_size=0.5)
    dense = log_density(linear, xs, solver=solver, regularize=True)
    monkeypatch.setattr("models.flow._integrate._DENSE_DIMENSIONS", 2)
    chunked = log_density(linear, xs, solver=solver, regularize=True)
    np.testing.assert_allclose(chunked.log_density, dense.log_density, rtol=1e-12)
    np.testing.assert_allclose(chunked.frobenius_squared, dense.frobenius_squared, rtol=1e-12)


def test_samples_invert_the_flow(x64):
    result = sample(linear, (4, 3), solver=FINE[1], key=KEY)
    latents = log_density(linear, result.values, solver=FINE[1]).values
    np.testing.assert_allclose(latents, jax.random.normal(KEY, (4, 3)), rtol=1e-7)


def test_hutchinson_draws_the_values_of_the_sign_vectors(x64):
    # A linear field's integrals are e^T A e and norm(e^T A)^2 for the probe of each example, so
    # with 64 keys every draw must be one of the eight sign vectors' values and, as e and -e
    # agree, all four of these must come up. Their mean is the truth.
    xs = jax.random.normal(KEY, (2, 3))
    solver = FlowSolver("rk4", step_size=0.5)
    exact = log_density(linear, xs, solver=solver)
    signs = jnp.array([[1, a, b] for a in (-1, 1) for b in (-1, 1)])
    values = jnp.stack(
        [jnp.einsum("ki,ij,kj->k", signs, MATRIX, signs), jnp.sum((signs @ MATRIX) ** 2, 1)], 1
    )
    truth = jnp.array([jnp.trace(MATRIX), jnp.sum(MATRIX**2)])
    np.testing.assert_allclose(values.mean(0), truth, atol=1e-12)

    def draw(key):
        options = {"method": jacreg.Hutchinson(), "regularize": True, "key": key}
        result = log_density(linear, xs, solver=solver, **options)
        trace = result.log_density - exact.log_density + jnp.trace(MATRIX)
        return jnp.stack([trace, result.frobenius_squared], 1)

    draws = jax.lax.map(draw, jax.random.split(KEY, 64)).reshape(-1, 1, 2)
    distances = jnp.abs(draws - values).max(2)
    assert float(distances.min(1).max()) < 1e-9
    assert set(np.unique(distances.argmin(1)).tolist()) == {0, 1, 2, 3}


def test_colored_divergence_and_images(x64):
    model = models.build("flow_conv", key=KEY, widths=(2,), input_shape=(5, 5, 1))
    field = jacreg.eqx.function(model)
    xs = jax.random.normal(KEY, (2, 5, 5, 1))
    solver = FlowSolver("rk4", step_size=0.5)
    coloring = jacreg.color(field, xs, jnp.zeros(2))
    exact = jax.jit(lambda xs: log_density(field, xs, solver=solver))(xs)
    colored = jax.jit(lambda xs: log_density(field, xs, solver=solver, method=coloring))(xs)
    np.testing.assert_allclose(colored.log_density, exact.log_density, rtol=1e-10)
    with pytest.raises(ValueError, match="needs a key"):
        log_density(field, xs, solver=solver, method=coloring, regularize=True)


def test_gradient_by_differences(x64):
    model = models.build("flow", key=KEY, hidden=(4,))
    xs = jax.random.normal(KEY, (3, 2))
    weight = model.layers[0].layer.weight

    def loss(weight):
        changed = eqx.tree_at(lambda m: m.layers[0].layer.weight, model, weight)
        field = jacreg.eqx.function(changed)
        result = log_density(
            field,
            xs,
            solver=FlowSolver("rk4"),
            method=jacreg.Hutchinson(),
            regularize=True,
            key=KEY,
        )
        penalty = result.kinetic_energy + result.frobenius_squared
        return jnp.mean(0.1 * penalty - result.log_density)

    loss = jax.jit(loss)
    gradient = jax.jit(jax.grad(loss))(weight)
    direction = jnp.cos(jnp.arange(weight.size)).reshape(weight.shape)
    difference = (loss(weight + 1e-5 * direction) - loss(weight - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-6)


@pytest.mark.parametrize("stiffness", [1.0, 30.0])
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_evaluations_are_counted_as_they_happen(method, stiffness):
    calls = []

    def field(xs, ts):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(stiffness * xs * (1 + ts[:, None]))

    result = sample(field, (4, 2), solver=FlowSolver(method, step_size=0.1), key=KEY)
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert len(calls) == result.num_evaluations
    assert result.converged


def test_giving_up_is_reported():
    solver = FlowSolver("dopri5", max_steps=3, rtol=1e-6, atol=1e-6)
    result = log_density(lambda xs, ts: jnp.sin(50 * xs), jnp.ones((2, 2)), solver=solver)
    assert not result.converged
    assert result.num_evaluations == 1 + 6 * 3
    assert 0.9 < result.remaining < 1
    whole = log_density(linear, jnp.ones((2, 3)), solver=FlowSolver())
    assert whole.converged
    assert whole.remaining == 0


def test_what_remains_is_the_share_of_the_time():
    # The pole at 0.6 of the two units of time cannot be passed.
    solver = FlowSolver("dopri5", end_time=2.0, max_steps=40)

    def field(xs, ts):
        return 0 * xs + 1 / (1.2 - ts[:, None]) ** 2

    result = log_density(field, jnp.ones((2, 1)), solver=solver)
    assert not result.converged
    np.testing.assert_allclose(result.remaining, 0.4, atol=1e-3)
    backwards = sample(field, (2, 1), solver=solver, key=KEY)
    np.testing.assert_allclose(backwards.remaining, 0.6, atol=1e-3)


def test_bits_per_dimension():
    # A uniform density on [0, 1]^d costs exactly the eight bits of a grey value.
    np.testing.assert_allclose(bits_per_dimension(jnp.zeros(2), 784), 8.0)
    np.testing.assert_allclose(bits_per_dimension(jnp.array([-2.0]), 2, levels=1), 1 / np.log(2))


def test_bad_input():
    with pytest.raises(ValueError, match="Did you mean 'dopri5'"):
        FlowSolver("dopri")
    with pytest.raises(ValueError, match="step_size of a flow solver must be positive"):
        FlowSolver("rk4", step_size=-0.1)
    with pytest.raises(ValueError, match="must be positive"):
        FlowSolver(end_time=float("nan"))
    with pytest.raises(ValueError, match=r"keep the shape.*\(2, 3\) -> \(2, 1\)"):
        log_density(lambda xs, ts: xs[:, :1], jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="floating-point"):
        log_density(linear, jnp.ones((2, 3), int))
    with pytest.raises(ValueError, match="one Rademacher probe"):
        log_density(linear, jnp.ones((2, 3)), method=jacreg.Hutchinson(3), regularize=True, key=KEY)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_row_that_explodes_is_a_failure(method):
    """Fixed steps reach the end whatever came of them, and the likelihood of a survivor is none."""
    solver = FlowSolver(method, max_steps=50)
    xs = jnp.asarray([[0.01, 0.0], [3.0, 0.0]])

    @jax.jit
    def solve(xs):
        return log_density(lambda xs, ts: 30 * xs**3, xs, solver=solver)

    found = solve(xs)
    assert not found.converged
    assert solve(xs[:1]).converged
