"""The contractive family's autoencoder against the formulas of Rifai et al."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.eqx
import jacreg.nnx
import models
from models.conv import transpose_axes

KEY = jax.random.key(0)
SMALL = {"input_shape": (3, 4, 2), "hidden": (5,), "num_classes": 3}
IMAGES = jax.random.uniform(jax.random.key(1), (6, 3, 4, 2))


@pytest.fixture(params=["nnx", "equinox"])
def framework(request):
    return request.param


def methods(framework, **options):
    """A network, and its methods as functions of a batch by name, None for the call itself."""
    model = models.build("autoencoder", framework=framework, key=KEY, **options)
    adapter = jacreg.nnx if framework == "nnx" else jacreg.eqx
    names = ("encode", "decode", "classify", None)
    return model, {name: adapter.function(model, method=name) for name in names}


def test_tied_weights_are_the_papers(framework):
    model, of = methods(framework, **SMALL)
    (kernel,) = model.kernels()
    xs = IMAGES.reshape(6, 24)
    hidden = jax.nn.sigmoid(xs @ kernel)
    np.testing.assert_allclose(of["encode"](IMAGES), hidden, rtol=1e-5)
    np.testing.assert_allclose(of[None](IMAGES), hidden @ kernel.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of["decode"](hidden), hidden @ kernel.T, rtol=1e-5, atol=1e-6)
    assert of["classify"](xs).shape == (6, 3)
    full = jax.eval_shape(
        lambda: models.build("autoencoder", framework=framework, key=KEY).kernels()
    )
    assert [kernel.shape for kernel in full] == [(784, 1000)]


def test_contractive_penalty_of_the_encoder_is_the_closed_form(framework):
    model, of = methods(framework, **SMALL)
    lin = jacreg.linearize(of["encode"], IMAGES)
    closed = jacreg.losses.dense_contractive_penalty(lin.value, model.kernels()[0], "sigmoid")
    np.testing.assert_allclose(jacreg.losses.contractive_penalty(lin), closed, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_depth_layout_and_parameters(framework, tied):
    options = {**SMALL, "hidden": (7, 5), "activation": "tanh", "tied": tied}
    model, of = methods(framework, **options)
    layout = ("CNHW", "OIHW", "CNHW")
    other = models.build("autoencoder", framework=framework, key=KEY, layout=layout, **options)
    mapped = other if framework == "nnx" else jax.vmap(other, in_axes=1)
    expected = of[None](IMAGES)
    assert expected.shape == (6, 24)
    np.testing.assert_allclose(mapped(transpose_axes(IMAGES, "NHWC", "CNHW")), expected, rtol=1e-5)
    params = (jacreg.nnx if framework == "nnx" else jacreg.eqx).functional(model).params
    kernels = 24 * 7 + 7 * 5
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == kernels * (1 if tied else 2) + (7 + 5) + (7 + 24) + (5 * 3 + 3)


def test_the_gradient_of_tied_weights_sees_both_uses(framework):
    model, _ = methods(framework, **SMALL)
    params, state, apply = (jacreg.nnx if framework == "nnx" else jacreg.eqx).functional(model)
    found = jax.grad(lambda params: jnp.mean(apply(params, state, IMAGES)[0] ** 2))(params)

    def by_hand(kernel):
        return jnp.mean((jax.nn.sigmoid(IMAGES.reshape(6, 24) @ kernel) @ kernel.T) ** 2)

    expected = jax.grad(by_hand)(model.kernels()[0])
    shapes = {leaf.shape: leaf for leaf in jax.tree.leaves(found) if leaf.ndim == 2}
    got = shapes[(24, 5)] if framework == "nnx" else shapes[(5, 24)].T
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden": ()}, ValueError, "at least one layer"),
        ({"tied": 1}, TypeError, "tied must be true or false"),
        ({"activation": "sigmoide"}, ValueError, "Did you mean 'sigmoid'"),
        ({"framework": "linen"}, ValueError, "exists in nnx, equinox, not in linen"),
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
