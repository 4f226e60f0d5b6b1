"""Every public call exported for a batch of any length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_call import CALLS, Net, batch
from jax import export

import jacreg

KEY = np.asarray(jax.random.key_data(jax.random.key(0)))
# What needs to know the length of the batch, and says so.
FIXED = ["subsample"]
ANY = [name for name in CALLS if name not in FIXED]
SAMPLE = (
    "jacobian", "divergence local", "frobenius_squared forward", "spectral_norm", "gram of two",
    "log_pseudo_determinant", "laplacian", "empirical_ntk", "layerwise_penalty",
)  # fmt: skip


def jitted(name):
    def run(xs, key):
        return CALLS[name](Net(), xs, jax.random.wrap_key_data(key))

    return jax.jit(run)


def any_batch():
    (length,) = export.symbolic_shape("b")
    return jax.ShapeDtypeStruct((length, 4), jnp.float32)


KEY_LIKE = jax.ShapeDtypeStruct(KEY.shape, KEY.dtype)


@pytest.mark.parametrize("name", ANY)
def test_traces_with_a_symbol_for_the_length(name):
    jitted(name).trace(any_batch(), KEY_LIKE)


@pytest.mark.parametrize("name", FIXED)
def test_what_cannot_says_so(name):
    with pytest.raises(ValueError, match="symbol"):
        jitted(name).trace(any_batch(), KEY_LIKE)


def test_a_bound_that_depends_on_the_number_of_rows_says_so():
    def centred(xs):
        return jacreg.lipschitz_bound(lambda xs: xs - xs.mean(0), xs)

    with pytest.raises(ValueError, match="symbol"):
        jax.jit(centred).trace(any_batch())


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.slow, id=n) for n in ANY],
)
def test_the_exported_call_gives_the_same_numbers(name):
    exported = export.export(jitted(name))(any_batch(), KEY_LIKE)
    for count in (2, 5):
        found, expected = exported.call(batch(count), KEY), jitted(name)(batch(count), KEY)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


def test_a_gradient_is_exported_too():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)

    @jax.jit
    @jax.grad
    def step(weights, xs):
        lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ weights), xs)
        return jnp.mean(jacreg.losses.jacobian_penalty(lin, jacreg.Exact()))

    like = jax.ShapeDtypeStruct(weights.shape, weights.dtype)
    exported = export.export(step)(like, any_batch())
    for count in (1, 3):
        np.testing.assert_allclose(
            exported.call(weights, batch(count)), step(weights, batch(count)), rtol=1e-5
        )
