"""Layers of the library inside the networks: injected noise, stages, Jacobians carried forward."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import models

KEY = jax.random.key(0)
SMALL = {"input_shape": (4,), "hidden": (5, 6), "num_classes": 3, "activation": "elu"}
XS = jax.random.normal(jax.random.key(1), (7, 4))


def test_noise_is_added_in_training_alone():
    clean = models.build("mlp", key=KEY, **SMALL)(XS)
    noisy = {**SMALL, "noise": 0.1}
    model = models.build("mlp", key=KEY, **noisy)
    assert not np.allclose(model(XS), model(XS))
    model.eval()
    np.testing.assert_allclose(model(XS), clean, rtol=1e-6)
    module, variables = models.build("mlp", key=KEY, framework="linen", **noisy)
    np.testing.assert_allclose(module.apply(variables, XS), clean, rtol=1e-5, atol=1e-6)
    drawn = module.apply(variables, XS, train=True, rngs={"noise": KEY})
    assert not np.allclose(drawn, clean)
    model = models.build("mlp", key=KEY, framework="equinox", **noisy)
    assert not np.allclose(model(XS[0], key=KEY), clean[0])
    quiet = eqx.nn.inference_mode(model)
    np.testing.assert_allclose(jax.vmap(quiet)(XS), clean, rtol=1e-5, atol=1e-6)
    assert not np.allclose(models.transfer(model, "nnx")(XS), clean)


def test_noise_reaches_the_input_and_every_hidden_layer_but_not_the_output():
    # A linear network of two layers: the variance is scale^2 (norm(W1 W2)^2 + norm(W2)^2).
    options = {"input_shape": (4,), "hidden": (5,), "num_classes": 1, "activation": "identity"}
    model = models.build("mlp", key=KEY, noise=0.3, **options)
    ys = model(jnp.zeros((40000, 4)))[:, 0]
    first, second = (layer.kernel[...] for layer in model.named_layers().values())
    expected = 0.09 * (jnp.sum((first @ second) ** 2) + jnp.sum(second**2))
    # The relative error of a variance of n draws is sqrt(2 / n) = 0.7 %.
    np.testing.assert_allclose(jnp.var(ys), expected, rtol=0.035)


@pytest.mark.parametrize("framework", ["nnx", "equinox"])
def test_stages_compose_to_the_network(framework):
    model = models.build("mlp", key=KEY, framework=framework, **SMALL)
    hs = XS
    for stage in model.stages():
        hs = stage(hs)
    expected = model(XS) if framework == "nnx" else jax.vmap(model)(XS)
    np.testing.assert_allclose(hs, expected, rtol=1e-5)
    bound = jacreg.layerwise_log_frobenius(model.stages(), XS)
    assert bound.per_layer.shape == (3, 7)
    whole = model if framework == "nnx" else jax.vmap(model)
    exact = jacreg.frobenius_squared(jacreg.linearize(whole, XS), jacreg.Exact())
    assert (0.5 * jnp.log(exact) <= bound.total + 1e-5).all()


def test_stages_of_lenet():
    model = models.build("lenet", key=KEY, input_shape=(12, 12, 1), num_classes=3)
    images = jax.random.normal(KEY, (2, 12, 12, 1))
    hs = images
    for stage in model.stages():
        hs = stage(hs)
    np.testing.assert_allclose(hs, model(images), rtol=1e-5)


def test_differential_mlp_starts_as_the_official_code():
    options = {"input_shape": (50,), "hidden": (400, 300), "init": "glorot"}
    layers = models.build("differential_mlp", key=KEY, **options).layers
    for layer, gain in zip(layers, (2.0, 2.0, 1.0), strict=True):
        kernel = layer.linear.kernel[...]
        expected = math.sqrt(2 * gain / sum(kernel.shape))
        # Five standard errors of a standard deviation; LeCun's would be 1.4 times off.
        assert abs(kernel.std() / expected - 1) < 5 / math.sqrt(2 * kernel.size)
        assert (layer.linear.bias[...] == jnp.float32(0.1)).all()
    with pytest.raises(ValueError, match="glorot"):
        models.build("differential_mlp", key=KEY, init="glorott")


def test_differential_mlp_carries_its_jacobian(x64):
    model = models.build("differential_mlp", key=KEY, input_shape=(2,), outputs=3, hidden=(4,))
    xs = jax.random.normal(KEY, (5, 2))
    ys, jacobian = model(xs)
    assert ys.dtype == jnp.float64
    lin = jacreg.linearize(lambda xs: model(xs)[0], xs)
    np.testing.assert_allclose(jacobian, jacreg.jacobian(lin), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"Unknown activation 'gelu'.*softplus"):
        models.build("differential_mlp", key=KEY, activation="gelu")


@pytest.mark.parametrize(("noise", "error"), [(-0.1, ValueError), ("much", TypeError)])
def test_bad_noise(noise, error):
    with pytest.raises(error, match="noise must be"):
        models.build("mlp", key=KEY, noise=noise)
