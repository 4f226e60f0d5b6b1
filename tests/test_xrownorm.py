"""XRowNorm: squared Frobenius norms in which every product serves twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

KEY = jax.random.key(0)


def with_spectrum(values, rows, columns, seed=0):
    """A matrix of given singular values."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(rows, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(columns, len(values))))[0]
    return jnp.asarray(left * values @ right.T)


def linear(matrix, num_examples=2):
    xs = jnp.ones((num_examples, matrix.shape[1]), matrix.dtype)
    return jacreg.linearize(lambda xs: xs @ matrix.T, xs)


def draws(lin, method, count):
    keys = jax.random.split(KEY, count)
    once = jax.jit(lambda k: jacreg.frobenius_squared(lin, method, key=k))
    return np.asarray(jax.lax.map(once, keys)).reshape(-1)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (24, 24)], ids=str)
def test_unbiased(x64, shape):
    matrix = with_spectrum(0.8 ** np.arange(20), *shape)
    truth = float((matrix**2).sum())
    found = draws(linear(matrix, num_examples=400), jacreg.XRowNorm(9), 40)
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert 5 * error <= 0.01 * truth  # it could see a bias of a hundredth
    assert abs(found.mean() - truth) <= 5 * error


def test_a_falling_spectrum_takes_a_fifth_of_the_error_of_projections(x64):
    matrix = with_spectrum(1 / np.arange(1, 129), 128, 128)
    lin, truth = linear(matrix, num_examples=8), float((matrix**2).sum())
    ours = draws(lin, jacreg.XRowNorm(24), 25)
    theirs = draws(lin, jacreg.Projection(24), 25)
    rmse = [np.sqrt(((found - truth) ** 2).mean()) / truth for found in (ours, theirs)]
    assert rmse[0] <= 0.2 * rmse[1]


def test_exact_for_low_rank_and_for_enough_products(x64):
    low = with_spectrum(np.array([3.0, 1.0, 0.1]), 20, 30)
    found = jacreg.frobenius_squared(linear(low), jacreg.XRowNorm(12), key=KEY)
    np.testing.assert_allclose(found, float((low**2).sum()), rtol=1e-10)
    full = with_spectrum(np.ones(6), 6, 9)
    lin = linear(full)
    assert jacreg.plan(jacreg.frobenius_squared, lin, jacreg.XRowNorm(9)).num_products == 6
    np.testing.assert_allclose(
        jacreg.frobenius_squared(lin, jacreg.XRowNorm(9), key=KEY), 6.0, rtol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-18, 1e-9, 1.0, 1e9, 1e17])
def test_homogeneous_of_degree_two(scale):
    matrix = with_spectrum(0.7 ** np.arange(20), 20, 30).astype(jnp.float32)
    method = jacreg.XRowNorm(9)
    one = jacreg.frobenius_squared(linear(matrix), method, key=KEY)
    scaled = jacreg.frobenius_squared(linear(matrix * scale), method, key=KEY)
    np.testing.assert_allclose(np.float64(scaled) / scale**2, one, rtol=1e-4)


def test_the_standard_error_is_of_the_size_of_the_error(x64):
    matrix = with_spectrum(1 / np.arange(1, 41), 40, 40)
    lin, truth = linear(matrix, num_examples=200), float((matrix**2).sum())
    norm = jacreg.with_standard_error(jacreg.frobenius_squared)
    mean, error = norm(lin, jacreg.XRowNorm(18), key=KEY)
    np.testing.assert_allclose(
        mean, jacreg.frobenius_squared(lin, jacreg.XRowNorm(18), key=KEY), rtol=1e-12
    )
    true_error = float(jnp.sqrt(jnp.mean((mean - truth) ** 2)))
    assert 0.4 * true_error <= float(jnp.sqrt(jnp.mean(error**2))) <= 2.5 * true_error


def test_gradient(x64):
    matrix = with_spectrum(0.8 ** np.arange(12), 12, 14)

    def loss(scale):
        return jacreg.frobenius_squared(linear(scale * matrix), jacreg.XRowNorm(6), key=KEY).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(1.3)
    np.testing.assert_allclose(gradient, 2 * value / 1.3, rtol=1e-8)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_gradient_of_low_rank_is_exact(rank, x64):
    """Of a lower rank than the sketch, where its QR has no derivative."""
    matrix = with_spectrum(np.array([3.0, 1.0])[:rank], 12, 14)

    def loss(matrix):
        return jacreg.frobenius_squared(linear(matrix), jacreg.XRowNorm(9), key=KEY)[0]

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(matrix), 2 * matrix, atol=1e-9)


def test_wrong_calls():
    with pytest.raises(ValueError, match=r"multiple of 3 .* use 9"):
        jacreg.XRowNorm(8)
    with pytest.raises(ValueError, match="at least 6"):
        jacreg.XRowNorm(3)
    with pytest.raises(ValueError, match="needs a key"):
        jacreg.frobenius_squared(linear(jnp.eye(9)), jacreg.XRowNorm(6))
    with pytest.raises(TypeError, match="does not estimate it"):
        jacreg.divergence(linear(jnp.eye(9)), jacreg.XRowNorm(6))
