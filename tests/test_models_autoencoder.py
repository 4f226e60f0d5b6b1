"""The contractive family's autoencoder against the formulas of Rifai et al."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.nnx
import models
from models.conv import transpose_axes

KEY = jax.random.key(0)
SMALL = {"input_shape": (3, 4, 2), "hidden": (5,), "num_classes": 3}
IMAGES = jax.random.uniform(jax.random.key(1), (6, 3, 4, 2))


def test_tied_weights_are_the_papers():
    model = models.build("autoencoder", key=KEY, **SMALL)
    kernel = model.encoder.layers[0].kernel[...]
    xs = IMAGES.reshape(6, 24)
    hidden = jax.nn.sigmoid(xs @ kernel)
    np.testing.assert_allclose(model.encode(IMAGES), hidden, rtol=1e-5)
    np.testing.assert_allclose(model(IMAGES), hidden @ kernel.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        model.classify(xs), hidden @ model.classifier.kernel[...], rtol=1e-5, atol=1e-6
    )
    assert models.build("autoencoder", key=KEY).encoder.layers[0].kernel.shape == (784, 1000)


def test_contractive_penalty_of_the_encoder_is_the_closed_form():
    model = models.build("autoencoder", key=KEY, **SMALL)
    lin = jacreg.linearize(jacreg.nnx.function(model.encoder), IMAGES)
    closed = jacreg.losses.dense_contractive_penalty(
        lin.value, model.encoder.layers[0].kernel[...], "sigmoid"
    )
    np.testing.assert_allclose(jacreg.losses.contractive_penalty(lin), closed, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_depth_layout_and_parameters(tied):
    options = {**SMALL, "hidden": (7, 5), "activation": "tanh", "tied": tied}
    model = models.build("autoencoder", key=KEY, **options)
    nchw = models.build("autoencoder", key=KEY, layout=("CNHW", "OIHW", "CNHW"), **options)
    expected = model(IMAGES)
    assert expected.shape == (6, 24)
    np.testing.assert_allclose(nchw(transpose_axes(IMAGES, "NHWC", "CNHW")), expected, rtol=1e-5)
    kernels = 24 * 7 + 7 * 5
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == kernels * (1 if tied else 2) + (7 + 5) + (7 + 24) + (5 * 3 + 3)
    gradient = nnx.grad(lambda model: jnp.mean(model(IMAGES) ** 2))(model)
    moved = gradient["encoder"]["layers"][0]["kernel"][...]
    assert float(jnp.abs(moved).max()) > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden": ()}, ValueError, "at least one layer"),
        ({"tied": 1}, TypeError, "tied must be true or false"),
        ({"activation": "sigmoide"}, ValueError, "Did you mean 'sigmoid'"),
        ({"framework": "equinox"}, ValueError, "exists in nnx, not in equinox"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        models.build("autoencoder", key=KEY, **options)


def test_bad_inputs():
    model = models.build("autoencoder", key=KEY, **SMALL)
    with pytest.raises(ValueError, match="24 features"):
        model(jnp.ones((2, 23)))
    with pytest.raises(TypeError, match="uint8: cast"):
        model(jnp.ones((2, 24), jnp.uint8))
