"""Novak et al. 2018 as a paper: what its networks are measured by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.reproduce import Asked, Job, Results, Settings, dense
from train.reproduce.papers.novak2018 import _measure
from train.reproduce.papers.novak2018._claims import ratios
from train.reproduce.papers.novak2018._jobs import grid, jobs
from train.reproduce.papers.novak2018._networks import Recipe, fit, measured, transitions

TINY = {
    "train_examples": 30,
    "test_examples": 60,
    "widths": [8],
    "networks": 2,
    "labels": "true",
    "batch": 10,
    "activation": "relu",
    "steps": 500,
}


def test_at_least_a_hundred_networks():
    for scale in ("quick", "full"):
        planned = [job for job in jobs(Settings(scale=scale)) if job.arm in grid()]
        assert sum(job.options["networks"] for job in planned) >= 100


@pytest.fixture
def blobs(monkeypatch):
    """Images of three classes that are easy to tell, in place of the digits."""
    rng = np.random.default_rng(0)
    ys = np.arange(90) % 3
    xs = 0.3 * rng.normal(size=(90, 4, 4, 1)) + 2 * np.eye(16)[ys].reshape(-1, 4, 4, 1)
    parts = (xs[:30].astype(np.float32), ys[:30]), (xs[30:].astype(np.float32), ys[30:])
    monkeypatch.setattr(_measure, "split", lambda *sizes: (*parts, 3))


@pytest.mark.usefixtures("blobs")
def test_the_penalty_lowers_the_norm_and_broken_is_none():
    plain = _measure.train_family(Asked(0), **TINY)
    broken = _measure.train_family(Asked(0, broken=True), weight=0.1, **TINY)
    penalised = _measure.train_family(Asked(0), weight=0.1, **TINY)
    assert np.array_equal(plain["norm"], broken["norm"])
    assert np.all(penalised["logit_norm"] < 0.8 * plain["logit_norm"])
    assert plain["norm"].shape == (2,)
    assert np.allclose(plain["gap"], plain["train_accuracy"] - plain["test_accuracy"])
    assert np.all(plain["transitions"] > 0)


@pytest.mark.usefixtures("blobs")
def test_training_stops_at_its_loss():
    (xs, ys), _, _ = _measure.split(30, 60, 0)
    flat = jnp.asarray(xs.reshape(30, 16))
    keys, gains = jax.random.split(jax.random.key(1), 2), jnp.ones(2)
    # The recipe of TINY: compiled once for both tests.
    recipe = Recipe((16, 8, 3), "relu", 10, 0.0, steps=500)
    layers, steps = fit(keys, gains, flat[None], jnp.asarray(ys), recipe=recipe)
    for number in range(2):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], layers)
        losses = -jax.nn.log_softmax(dense.outputs(one, flat, "relu"))[jnp.arange(30), ys]
        assert losses.mean() <= recipe.target or steps[number] == recipe.steps
    assert steps.min() < recipe.steps


def test_the_norm_of_a_linear_network():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    layers = [(kernel[None], jnp.zeros((1, 3)))]
    xs, ys = jnp.ones((4, 5)), jnp.zeros(4, jnp.int32)
    found = measured(layers, (xs, ys), (xs, ys), None, activation="tanh")
    assert np.isclose(found["logit_norm"][0], np.linalg.norm(kernel), rtol=1e-5)
    p = np.asarray(jax.nn.softmax(xs[0] @ kernel))
    slope = (np.diag(p) - np.outer(p, p)) @ np.asarray(kernel).T
    assert np.isclose(found["norm"][0], np.linalg.norm(slope), rtol=1e-5)


def test_transitions_of_one_unit_along_a_circle():
    layers = [(jnp.asarray([[1.0], [0.0]]), jnp.asarray([-0.5])), (jnp.ones((1, 1)), jnp.zeros(1))]
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    circle = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], 1), jnp.float32)
    assert transitions(layers, circle[None]) == 2
    assert transitions(layers, 0.4 * circle[None]) == 0


def test_paths_pass_through_points_of_three_classes():
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(9, 4)), jnp.float32)
    ys = np.arange(9) % 3
    paths = np.asarray(_measure.closed_paths(xs, ys, 0))
    near = np.linalg.norm(paths[:, :, None] - np.asarray(xs), axis=-1).min(1)
    for row in near:
        through = np.sort(row)[:3]
        assert np.all(through < 0.05)
        assert len(set(ys[np.argsort(row)[:3]])) == 3
    steps = np.linalg.norm(np.diff(paths, axis=1, append=paths[:, :1]), axis=-1)
    assert steps.max() < 0.1


def test_shifts_keep_the_image_first():
    image = np.zeros((1, 3, 3, 1), np.float32)
    image[0, 1, 1] = 1
    views = _measure.shifted(image)
    assert np.array_equal(views[0], image)
    assert np.array_equal(views.sum(0)[0, ..., 0], np.ones((3, 3)))


def test_errors_in_the_order_of_norms():
    norms = np.arange(20.0)[::-1]
    wrong = norms >= 10
    assert np.array_equal(_measure.error_by_norm(wrong, norms), [0] * 5 + [1] * 5)


def test_ratios_are_paired_by_seed_and_arm(tmp_path):
    results = Results(Settings(), [Job(arm, seed) for arm in "ab" for seed in range(2)], tmp_path)
    results.metric = lambda arm, name: np.asarray({"a": [2.0, 8.0], "b": [1.0, 2.0]}[arm])  # type: ignore[method-assign]
    assert np.allclose(ratios(results, ["a", "b"], ["b", "b"], "x"), [2**0.5, 2.0])
