"""The estimate is the quantity's own; the error is the deviation that repeated draws show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

A = np.random.default_rng(0).normal(size=(5, 5))


def lin():
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)))
    return jacreg.linearize(lambda x: jnp.tanh(x @ jnp.asarray(A)), xs)


CASES = {
    "projection": (jacreg.frobenius_squared, (jacreg.Projection(8),), {}),
    "default by keyword": (jacreg.frobenius_squared, (), {"method": jacreg.Projection(4)}),
    "noise": (jacreg.frobenius_squared, (jacreg.NoiseInjection(0.1, 8),), {}),
    "trace": (jacreg.divergence, (jacreg.Hutchinson(8),), {}),
    "diagonal": (jacreg.diagonal, (jacreg.Hutchinson(8),), {}),
    "penalty": (jacreg.losses.jacobian_penalty, (jacreg.Projection(8),), {}),
    "sliced": (jacreg.losses.sliced_score_matching, (), {"num_probes": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_estimate_and_error(name, x64):
    quantity, args, kwargs = CASES[name]
    estimator = jacreg.with_standard_error(quantity)
    key = jax.random.key(0)
    estimate, error = estimator(lin(), *args, key=key, **kwargs)
    np.testing.assert_allclose(estimate, quantity(lin(), *args, key=key, **kwargs), rtol=1e-12)
    keys = jax.random.split(jax.random.key(1), 4000)
    made = lin()
    estimates, errors = jax.jit(
        lambda keys: jax.lax.map(lambda k: estimator(made, *args, key=k, **kwargs), keys)
    )(keys)
    spread = np.std(estimates, 0)
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2, 0)), spread, rtol=0.1, atol=1e-12)
    assert error.shape == estimate.shape


def test_xtrace_gives_its_own(x64):
    big = jnp.asarray(np.random.default_rng(2).normal(size=(20, 20)) / 5)
    made = jacreg.linearize(lambda x: jnp.tanh(x @ big), jnp.ones((3, 20)))
    estimate, error = jacreg.with_standard_error(jacreg.divergence)(
        made, jacreg.XTrace(8), key=jax.random.key(0)
    )
    np.testing.assert_allclose(
        estimate, jacreg.divergence(made, jacreg.XTrace(8), key=jax.random.key(0))
    )
    assert (error > 0).all()


def test_what_has_no_error_says_so(x64):
    norm = jacreg.with_standard_error(jacreg.frobenius_squared)
    with pytest.raises(ValueError, match="at least two"):
        norm(lin(), jacreg.Projection(), key=jax.random.key(0))
    with pytest.raises(TypeError, match="no independent probes"):
        norm(lin(), jacreg.Exact(), key=jax.random.key(0))
    with pytest.raises(ValueError, match="key"):
        norm(lin(), jacreg.Projection(4))
    with pytest.raises(TypeError, match="no key"):
        jacreg.with_standard_error(jacreg.gram)
