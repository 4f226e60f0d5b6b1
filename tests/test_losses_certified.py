"""The margin loss against its definition, the radius against the nearest point of another class."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jacreg import losses

LOGITS = jax.random.normal(jax.random.key(0), (6, 4))
LABELS = jnp.array([0, 1, 2, 3, 0, 1])


def test_the_loss_is_its_definition():
    found = losses.lipschitz_margin_loss(LOGITS, LABELS, margin=0.7, temperature=0.25)
    shifted = LOGITS.at[jnp.arange(6), LABELS].add(-0.7)
    expected = 0.25 * optax.softmax_cross_entropy_with_integer_labels(shifted / 0.25, LABELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_margin_may_be_a_ramp_s():
    def loss(margin):
        return losses.lipschitz_margin_loss(LOGITS, LABELS, margin=margin, temperature=0.25)

    for margin in (0.0, 0.7):
        np.testing.assert_allclose(jax.jit(loss)(margin), loss(margin), rtol=1e-6)
    half = losses.lipschitz_margin_loss(
        LOGITS.astype(jnp.bfloat16), LABELS, margin=jnp.float32(0.5), temperature=1.0
    )
    assert half.dtype == jnp.bfloat16


def test_the_radius_reaches_the_boundary_of_a_linear_classifier():
    """Two classes with opposite weights: the radius is the distance of the boundary itself."""
    weights = jnp.array([[1.0, 0, 0], [0, 1.0, 0]])
    xs = jax.random.normal(jax.random.key(1), (50, 3))
    labels = jnp.zeros(50, int)
    found = losses.certified_radius(xs @ weights.T, labels, lipschitz=1.0)
    difference = weights[0] - weights[1]
    distance = xs @ difference / jnp.linalg.norm(difference)
    np.testing.assert_allclose(found, jnp.maximum(distance, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        losses.certified_radius(xs @ weights.T, labels, lipschitz=jnp.array(2.0)), found / 2
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.certified_radius(LOGITS, LABELS[:2], lipschitz=1), ValueError, "shapes"),
        (lambda: losses.certified_radius(LOGITS, LABELS, lipschitz=0), ValueError, "positive"),
        (lambda: losses.certified_radius(LOGITS[:, :1], LABELS, lipschitz=1), ValueError, "two"),
        (lambda: losses.certified_radius(LOGITS, LOGITS[:, 0], lipschitz=1), TypeError, "labels"),
        (
            lambda: losses.lipschitz_margin_loss(LOGITS, LABELS, margin=1, temperature=0),
            ValueError,
            "temperature",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
