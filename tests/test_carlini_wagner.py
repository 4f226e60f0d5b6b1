"""The L2 attack against the distance to the plane of a linear classifier, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

from train.evaluation import carlini_wagner


def test_the_distance_to_a_plane():
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.uniform(0.4, 0.6, (12, 4, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)

    def logits(xs):
        score = jnp.tensordot(xs - 0.5, weights, 2)
        return jnp.stack([score, -score], -1)

    score = logits(xs)[:, 0]
    truth = np.abs(score) / np.linalg.norm(weights)
    labels = jnp.where(score > 0, 0, 1)
    attack = jax.jit(
        lambda xs, labels: carlini_wagner(
            logits, xs, labels, steps=300, searches=6, learning_rate=0.01
        )
    )
    found = np.asarray(attack(xs, labels))
    assert np.all(found >= truth * (1 - 1e-4)), "a distance is an upper bound"
    np.testing.assert_allclose(found, truth, rtol=0.1, atol=2e-3)
    # What is misclassified as it is has no distance.
    np.testing.assert_array_equal(attack(xs, 1 - labels), 0)


def test_where_no_other_class_is_reached():
    xs = jnp.full((2, 3), 0.5)
    found = carlini_wagner(
        lambda xs: jnp.stack([xs.sum(-1) + 100, xs.sum(-1)], -1),
        xs,
        jnp.zeros(2, int),
        steps=5,
        searches=2,
    )
    assert np.all(np.isinf(found))
