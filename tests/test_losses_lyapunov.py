"""Lyapunov exponents and their penalty against the QR factorisation of dense products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg.losses import lyapunov_exponents, lyapunov_penalty
from jacreg.losses._lyapunov import first_directions

KEY = jax.random.key(0)
SIZE, STEPS = 4, 6


def network(weight, table=0.0):
    return lambda zs, inputs: {"h": jnp.tanh(zs["h"] @ weight + inputs + table)}


def given():
    keys = jax.random.split(KEY, 3)
    weight = 1.3 * jax.random.normal(keys[0], (SIZE, SIZE)) / SIZE**0.5
    state = {"h": jax.random.normal(keys[1], (3, SIZE))}
    return weight, state, 0.3 * jax.random.normal(keys[2], (STEPS, 3, SIZE))


def dense(weight, state, inputs, count, skip):
    """By the QR factorisation of the whole product, in NumPy; that of the skipped steps aside."""
    found = []
    columns = np.stack(first_directions(KEY, state, count), axis=2)
    for row in range(3):
        z = state["h"][row]
        sums = {}
        product = columns[row]
        for number, entry in enumerate(inputs[:, row]):
            one = lambda z, entry=entry: jnp.tanh(z @ weight + entry)  # noqa: E731
            product = np.asarray(jax.jacfwd(one)(z)) @ product
            z = one(z)
            sums[number + 1] = np.log(np.abs(np.diag(np.linalg.qr(product)[1])))
        found.append((sums[STEPS] - sums.get(skip, 0)) / (STEPS - skip))
    return np.stack(found)


@pytest.mark.parametrize(("count", "skip"), [(1, 0), (3, 2), (SIZE, 0)])
def test_the_exponents_are_those_of_the_dense_product(count, skip, x64):
    weight, state, inputs = given()
    options = {"num_exponents": count, "skip": skip, "key": KEY}
    found = jax.jit(lambda w: lyapunov_exponents(network(w), state, inputs, **options))(weight)
    # Of all directions the product itself has lost the last digits of the smallest.
    rtol = 1e-5 if count == SIZE else 1e-9
    np.testing.assert_allclose(found, dense(weight, state, inputs, count, skip), rtol=rtol)
    penalty = lyapunov_penalty(network(weight), state, inputs, target=-0.3, **options)
    np.testing.assert_allclose(penalty, jnp.sum((found + 0.3) ** 2, 1), rtol=1e-12)


def test_the_gradient_by_differences(x64):
    weight, state, inputs = given()
    along = jnp.cos(jnp.arange(16.0)).reshape(4, 4)

    @jax.jit
    def loss(weight):
        options = {"num_exponents": 3, "key": KEY}
        return lyapunov_penalty(network(weight), state, inputs, **options).mean()

    gradient = jax.jit(jax.grad(loss))(weight)
    difference = (loss(weight + 1e-5 * along) - loss(weight - 1e-5 * along)) / 2e-5
    np.testing.assert_allclose(jnp.vdot(gradient, along), difference, rtol=1e-6)


def test_a_linear_map_has_the_logs_of_its_eigenvalues(x64):
    basis = jnp.linalg.qr(jax.random.normal(KEY, (3, 3)))[0]
    matrix = basis @ jnp.diag(jnp.array([1.5, 0.9, 0.2])) @ basis.T
    found = lyapunov_exponents(
        lambda zs: zs @ matrix.T, jnp.ones((2, 3)), num_exponents=3, num_steps=80, skip=40, key=KEY
    )
    np.testing.assert_allclose(found, jnp.log(jnp.array([[1.5, 0.9, 0.2]] * 2)), rtol=1e-6)


def test_a_lost_direction_is_finite_and_spoils_no_gradient():
    def loss(scale):
        step = lambda zs: scale * zs * jnp.array([1.0, 0.0])  # noqa: E731
        options = {"num_exponents": 2, "num_steps": 3, "key": KEY}
        return lyapunov_exponents(step, jnp.ones((2, 2)), **options).sum()

    value, gradient = jax.value_and_grad(loss)(0.5)
    assert jnp.isfinite(value)
    # Two examples of one direction that is kept: d log(scale), for every step's mean.
    np.testing.assert_allclose(gradient, 2 / 0.5, rtol=1e-5)


def test_bad_inputs():
    step, state = (lambda zs: zs), jnp.ones((2, 3))
    for match, options in (
        ("num_steps must be positive without inputs", {}),
        ("num_exponents must be between 1 and the 3", {"num_steps": 2, "num_exponents": 4}),
        ("skip must be between", {"num_steps": 2, "skip": 2}),
        ("inputs have 4 steps, but num_steps is 5", {"inputs": jnp.ones(4), "num_steps": 5}),
        ("share a leading axis", {"inputs": (jnp.ones(4), jnp.ones(5))}),
        ("what the step returns must have the shape", {"num_steps": 2, "step": lambda z: z[:, :1]}),
    ):
        used = options.pop("step", step)
        with pytest.raises(ValueError, match=match):
            lyapunov_penalty(used, state, key=KEY, **options)
    with pytest.raises(ValueError, match="key"):
        lyapunov_penalty(step, state, num_steps=2, key=None)
    assert jacreg.losses.lyapunov_penalty is lyapunov_penalty
