"""Certified accuracy in a run: the model, the loss, and a certificate that an attack breaks."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from train import evaluation
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
    found = evaluation.certified(LINEAR, WEIGHTS, 2.0, examples, SETTINGS, KEY)
    distance = np.abs(examples.inputs[:, 0] - examples.inputs[:, 1]) / 2**0.5
    for radius in SETTINGS.certified:
        expected = np.mean(distance > radius)
        np.testing.assert_allclose(found[f"certified_accuracy_{radius:g}"], expected)
        # The attack of a linear classifier comes close to the boundary, and never beyond.
        assert expected - 1e-6 <= found[f"accuracy_pgd_l2_{radius:g}"] <= expected + 0.1


def test_a_certificate_that_an_attack_breaks_is_an_error():
    with pytest.raises(CertificateError, match=r"radius 0\.\d+ an attack changed \d+ of 20"):
        evaluation.certified(LINEAR, WEIGHTS, 0.2, _points(), SETTINGS, KEY)


def test_the_l2_attack_stays_in_its_ball_and_its_bounds():
    pixels = jax.random.uniform(KEY, (6, 2))
    found = evaluation.pgd_l2(lambda xs: xs @ WEIGHTS, pixels, jnp.zeros(6, int), 0.4, 5, KEY)
    assert bool((jnp.linalg.norm(found - pixels, axis=1) <= 0.4).all())
    assert bool(((found >= 0) & (found <= 1)).all())


@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")])
def test_the_network_is_one_lipschitz_in_any_layout(layout):
    options = {"input_shape": (8, 6, 2), "widths": (4,), "blocks": 1, "hidden": 6, "num_classes": 3}
    model = models.build("lipschitz_cnn", layout=layout, key=KEY, layer="aol", **options)
    assert float(model.lipschitz_bound()) == 1
    shape = model.spec.layout.input_shape(3, (8, 6, 2))
    xs = jax.random.normal(KEY, shape)
    jacobian = np.asarray(jax.jacfwd(lambda x: model(x[None])[0].ravel())(xs[0]))
    assert model(xs).shape == (3, 3)
    assert np.linalg.norm(jacobian.reshape(3, -1), 2) <= 1 + 1e-5


def test_options_that_do_not_fit():
    for options, message in [({"layer": "cayley"}, "layer"), ({"widths": (3,)}, "even")]:
        with pytest.raises(ValueError, match=message):
            models.build("lipschitz_cnn", key=KEY, **options)
