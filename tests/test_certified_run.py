"""Certified accuracy in a run: the model, the loss, and a certificate that an attack breaks."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.conv import transpose_axes
from train import evaluation
from train.batches import Batches
from train.data import Examples
from train.errors import CertificateError

KEY = jax.random.key(0)
WEIGHTS = jnp.array([[2.0, 0.0], [0.0, 2.0]])
LINEAR = evaluation.Classifier(
    lambda weights, xs: xs @ weights, lambda raw: raw, lambda xs: xs, (-np.inf, np.inf)
)
SETTINGS = SimpleNamespace(certified=(0.1, 0.5), batch_size=8, attack_examples=0, pgd_steps=10)


def _points():
    xs = np.asarray(jax.random.normal(KEY, (20, 2)), np.float32)
    return Examples(xs, np.asarray(np.argmax(xs, 1)))


def test_a_linear_classifier_is_certified_exactly_up_to_its_boundary():
    examples = _points()
    found = evaluation.certified(
        LINEAR, WEIGHTS, 2.0, examples, SETTINGS, KEY, Batches(SETTINGS.batch_size)
    )
    distance = np.abs(examples.inputs[:, 0] - examples.inputs[:, 1]) / 2**0.5
    for radius in SETTINGS.certified:
        expected = np.mean(distance > radius)
        np.testing.assert_allclose(found[f"certified_accuracy_{radius:g}"], expected)
        # The attack of a linear classifier comes close to the boundary, and never beyond.
        assert expected - 1e-6 <= found[f"accuracy_pgd_l2_{radius:g}"] <= expected + 0.1


def test_a_certificate_that_an_attack_breaks_is_an_error():
    with pytest.raises(CertificateError, match=r"radius 0\.\d+ an attack changed \d+ of 20"):
        evaluation.certified(
            LINEAR, WEIGHTS, 0.2, _points(), SETTINGS, KEY, Batches(SETTINGS.batch_size)
        )


def test_the_l2_attack_stays_in_its_ball_and_its_bounds():
    pixels = jax.random.uniform(KEY, (6, 2))
    found = evaluation.pgd_l2(lambda xs: xs @ WEIGHTS, pixels, jnp.zeros(6, int), 0.4, 5, KEY)
    assert bool((jnp.linalg.norm(found - pixels, axis=1) <= 0.4).all())
    assert bool(((found >= 0) & (found <= 1)).all())


SMALL = {"input_shape": (8, 6, 2), "widths": (4,), "blocks": 1, "hidden": 6, "num_classes": 3}


@pytest.mark.parametrize(("layer", "constrained"), [("sll", True), ("aol", True), ("sll", False)])
def test_the_network_is_one_function_in_any_framework_and_layout(layer, constrained):
    options = {**SMALL, "layer": layer, "constrained": constrained}

    @jax.jit
    def run(images):
        source = models.build("lipschitz_cnn", key=KEY, **options)
        for each in source.named_layers().values():
            each.bias[...] = jax.random.normal(KEY, each.bias.shape) / 3
        jacobian = jax.jacfwd(lambda x: source(x[None])[0])(images[0]).reshape(3, -1)
        built = models.build("lipschitz_cnn", framework="equinox", key=KEY, **options)
        kernels = [each.dense_1.kernel[...] for each in (models.transfer(built, "nnx"), source)]
        found = [(source(images), source.lipschitz_bound())]
        for framework in ("nnx", "equinox"):
            model = models.transfer(source, framework, ("HNCW", "OIWH", "CWHN"))
            xs = transpose_axes(images, "NHWC", "HNCW")
            logits = model(xs) if framework == "nnx" else jax.vmap(model, in_axes=1)(xs)
            found.append((logits, model.lipschitz_bound()))
        with pytest.raises(ValueError, match="nnx and equinox, not in linen"):
            models.transfer(source, "linen")
        return jacobian, kernels, found

    jacobian, kernels, ((logits, bound), *others) = run(jax.random.normal(KEY, (3, 8, 6, 2)))
    assert np.linalg.norm(jacobian, 2) <= bound * (1 + 1e-5)
    assert (bound == 1) == constrained
    np.testing.assert_array_equal(*kernels)
    for found, other_bound in others:
        np.testing.assert_allclose(found, logits, atol=1e-5)
        np.testing.assert_allclose(other_bound, bound, rtol=1e-5)


def test_options_that_do_not_fit():
    for options, message in [
        ({"layer": "cayley"}, "layer"),
        ({"widths": (3,)}, "even"),
        ({"constrained": 1}, "constrained must be true or false"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            models.build("lipschitz_cnn", key=KEY, **options)
