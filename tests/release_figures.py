"""What a user of the wheel is promised, in figures; by `tests/release.py`, outside the checkout.

Needs the extras `flows` and `equilibrium`, and nothing of the checkout.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

KEY = jax.random.key(0)


def _seconds(call):
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def test_log_likelihood_of_a_linear_field():
    flow = pytest.importorskip("jacreg.flow", exc_type=ImportError)
    matrix = jax.random.normal(KEY, (4, 4)) / 3
    xs = jax.random.normal(jax.random.key(1), (16, 4))
    solver = flow.FlowSolver("dopri5", rtol=1e-7, atol=1e-7)
    found = flow.log_density(lambda xs, ts: xs @ matrix.T, xs, solver=solver)
    latents = xs @ jax.scipy.linalg.expm(matrix).T
    expected = jax.scipy.stats.norm.logpdf(latents).sum(1) + jnp.trace(matrix)
    print(f"largest error {float(jnp.abs(found.log_density - expected).max()):.2g} nats")
    assert bool(found.converged)
    np.testing.assert_allclose(found.log_density, expected, atol=1e-5)


def test_exact_trace_of_images_takes_no_longer_than_one_probe():
    """3x3 convolutions, 3 to 32 to 3 channels, on 32x32: a whole `log_density`, in turns."""
    flow = pytest.importorskip("jacreg.flow", exc_type=ImportError)
    first, last = (
        jax.random.normal(key, shape) / 10
        for key, shape in zip(jax.random.split(KEY), [(3, 3, 3, 32), (3, 3, 32, 3)], strict=True)
    )

    def conv(xs, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def field(xs, ts):
        return conv(jnp.tanh(conv(xs, first) + ts[:, None, None, None]), last)

    xs = jax.random.normal(KEY, (2, 32, 32, 3))
    solver = flow.FlowSolver("rk4", step_size=0.25)

    def by(method):
        def densities(xs, key):
            found = flow.log_density(field, xs, solver=solver, method=method, key=key)
            return found.log_density

        return jax.jit(densities)

    exact, probed = by(jacreg.Auto()), by(jacreg.Hutchinson())
    keys = jax.random.split(jax.random.key(2), 8)
    draws = np.array([probed(xs, key) for key in keys])
    exactly = np.array([exact(xs, key) for key in keys[:2]])
    # The same whatever the key, and what the probes scatter around.
    np.testing.assert_array_equal(exactly[0], exactly[1])
    assert draws.std(0).min() > 0
    assert (abs(draws.mean(0) - exactly[0]) < 5 * draws.std(0, ddof=1) / len(keys) ** 0.5).all()
    rounds = [
        (_seconds(lambda: exact(xs, KEY)), _seconds(lambda: probed(xs, KEY))) for _ in range(9)
    ]
    ratio = float(np.median([ours / theirs for ours, theirs in rounds]))
    print(f"exact by one probe {ratio:.2f}, probe's deviation {draws.std(0).mean():.2g} nats")
    assert ratio <= 1


def test_rest_point_penalty_and_gradients_against_finite_differences():
    equilibrium = pytest.importorskip("jacreg.equilibrium")
    with jax.enable_x64(True):
        weights = 0.3 * jax.random.normal(KEY, (3, 3), jnp.float64)
        xs = jax.random.normal(jax.random.key(1), (5, 3), jnp.float64)
        solver = equilibrium.EquilibriumSolver(tolerance=1e-12, backward_tolerance=1e-12)

        def cell(zs, xs, weights):
            return jnp.tanh(zs @ weights.T + xs)

        def penalty(weights):
            rest = equilibrium.solve(cell, jnp.zeros_like(xs), xs, weights, solver=solver)
            lin = jacreg.linearize(lambda zs: cell(zs, xs, weights), rest.state)
            return jnp.mean(jacreg.frobenius_squared(lin)), rest

        (value, rest), gradient = jax.value_and_grad(penalty, has_aux=True)(weights)
        assert bool(rest.converged.all())
        np.testing.assert_allclose(rest.state, cell(rest.state, xs, weights), atol=1e-10)
        jacobians = (1 - rest.state**2)[:, :, None] * weights
        np.testing.assert_allclose(value, jnp.mean(jnp.sum(jacobians**2, (1, 2))), rtol=1e-9)
        direction = jax.random.normal(jax.random.key(2), weights.shape, jnp.float64)
        ends = [penalty(weights + step * direction)[0] for step in (1e-5, -1e-5)]
        difference = (ends[0] - ends[1]) / 2e-5
        error = float(abs(jnp.sum(gradient * direction) / difference - 1))
        print(f"gradient against differences: relative error {error:.2g}")
        np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=1e-6)
        tangent = jax.jvp(lambda w: penalty(w)[0], (weights,), (direction,))[1]
        np.testing.assert_allclose(tangent, difference, rtol=1e-6)
