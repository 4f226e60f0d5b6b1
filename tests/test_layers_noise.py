"""GaussianNoise in the three frameworks: off in evaluation, N(0, scale^2) in training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx

KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (400, 50))
SCALE = 0.3
FRAMEWORKS = ("nnx", "linen", "equinox")


def noisy(framework, scale=SCALE):
    if framework == "nnx":
        return jacreg.nnx, (jacreg.nnx.GaussianNoise(scale, rngs=nnx.Rngs(0)),)
    if framework == "linen":
        return jacreg.linen, (jacreg.linen.GaussianNoise(scale), {})
    return jacreg.eqx, (jacreg.eqx.GaussianNoise(scale),)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_adapters_turn_it_on_and_off(framework):
    adapter, parts = noisy(framework)
    np.testing.assert_array_equal(adapter.function(*parts)(XS), XS)
    fn = adapter.function(*parts, dropout_key=KEY)
    noise = np.asarray(fn(XS) - XS, np.float64)
    np.testing.assert_array_equal(fn(XS), fn(XS))
    count = noise.size
    assert abs(noise.mean()) < 5 * SCALE / np.sqrt(count)
    assert abs(noise.var() / SCALE**2 - 1) < 5 * np.sqrt(2 / count)
    assert abs((noise**4).mean() / SCALE**4 - 3) < 5 * np.sqrt(96 / count)
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 5 / np.sqrt(50)  # rows differ
    params, state, apply = adapter.functional(*parts)
    assert not jax.tree.leaves(params)
    trained, _ = apply(params, state, XS, train=True, key=KEY)
    assert abs((trained - XS).std() / SCALE - 1) < 0.05
    with pytest.raises(ValueError, match="no key"):
        apply(params, state, XS, train=True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_zero_scale_and_bad_scales(framework):
    adapter, parts = noisy(framework, 0.0)
    params, state, apply = adapter.functional(*parts)
    np.testing.assert_array_equal(apply(params, state, XS, train=True)[0], XS)
    for scale, error in ((-1.0, ValueError), (float("nan"), ValueError), ("a", TypeError)):
        with pytest.raises(error, match="GaussianNoise: scale"):
            noisy(framework, scale)
    adapter, parts = noisy(framework)
    assert adapter.function(*parts, dropout_key=KEY)(XS.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    with pytest.raises(TypeError, match="floating point"):
        adapter.function(*parts, dropout_key=KEY)(jnp.ones((2, 3), int))


def test_nnx_in_its_own_idiom():
    model = nnx.Sequential(
        nnx.Linear(50, 4, rngs=nnx.Rngs(0)), jacreg.nnx.GaussianNoise(SCALE, rngs=nnx.Rngs(1))
    )
    clean = model.layers[0](XS)
    first, second = model(XS), model(XS)
    assert jnp.abs(first - second).max() > 0.01
    model.eval()
    np.testing.assert_array_equal(model(XS), clean)
    np.testing.assert_array_equal(nnx.view(model, deterministic=True)(XS), clean)
    layer = jacreg.nnx.GaussianNoise(SCALE)
    with pytest.raises(ValueError, match="no random stream"):
        layer(XS)
    np.testing.assert_array_equal(layer(XS, rngs=nnx.Rngs(3)), layer(XS, rngs=nnx.Rngs(noise=3)))
    np.testing.assert_array_equal(layer(XS, deterministic=True), XS)
    assert layer(XS, rngs=KEY).shape == XS.shape


def test_equinox_in_its_own_idiom():
    layer = jacreg.eqx.GaussianNoise(SCALE)
    assert jnp.abs(layer(XS, key=KEY) - XS).max() > 0.1
    np.testing.assert_array_equal(eqx.nn.inference_mode(layer)(XS), XS)
    np.testing.assert_array_equal(layer(XS, inference=True), XS)
    with pytest.raises(ValueError, match="no key"):
        layer(XS)


def test_linen_in_its_own_idiom():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, xs, train: bool):
            return jacreg.linen.GaussianNoise(SCALE)(xs, deterministic=not train)

    assert jnp.abs(Net().apply({}, XS, True, rngs={"noise": KEY}) - XS).max() > 0.1
    np.testing.assert_array_equal(Net().apply({}, XS, False), XS)


def test_small_noise_is_the_explicit_regulariser(x64):
    """Camuto et al.: E loss(f(x + e)) - loss(f(x)) is 1/2 scale^2 Tr(J^T H J) to first order.

    For a linear map and the squared error it is exact; antithetic pairs remove the odd part.
    """
    weight = jax.random.normal(KEY, (3, 2), jnp.float64)
    xs = jnp.ones((20000, 3))
    noise = jacreg.eqx.function(jacreg.eqx.GaussianNoise(0.1), dropout_key=KEY)(xs) - xs
    excess = 0.5 * ((noise @ weight) ** 2).sum(1)
    lins = [jacreg.linearize(lambda x: x @ weight, xs[:1])]
    expected = jacreg.losses.gaussian_noise_regularizer(lins, [0.1])[0]
    sem = excess.std() / np.sqrt(len(excess))
    assert 5 * sem <= 0.1 * expected
    assert abs(excess.mean() - expected) <= 5 * sem
