"""Scarvelis and Solomon 2024 as a paper: its two problems with a closed form."""

import jax
import numpy as np

from train.reproduce import Asked, Settings
from train.reproduce.papers import PAPERS
from train.reproduce.papers.scarvelis2024._measure import denoise_ball, points, soft_threshold

TINY = {
    "dimensions": 2,
    "radius": 4.0,
    "width": 8,
    "middle": 4,
    "steps": 40,
    "batch": 64,
    "scale": 0.02,
    "rate": 5e-3,
}


def test_levels_are_the_papers_closed_form_and_exclude_no_penalty():
    claims = PAPERS["scarvelis2024"]().claims(Settings())
    levels = {claim.id: claim for claim in claims if claim.id.endswith("level")}
    assert sorted(round(float(claim.paper), 6) for claim in levels.values()) == [
        0.5,
        0.75,
        0.8,
        0.95,
    ]
    for claim in levels.values():
        assert claim.above < float(claim.paper) < claim.below < 1.0
        assert claim.about_penalty


def test_points_are_uniform_in_the_ball_by_their_weights():
    for dimensions, radius in ((2, 4.0), (5, 2.0)):
        xs, weights = map(np.asarray, points(jax.random.key(0), 40_000, dimensions, radius))
        radii = np.linalg.norm(xs, axis=1)
        assert radii.max() <= radius * (1 + 1e-6)
        assert np.isclose(weights.mean(), radius**dimensions, rtol=1e-5)
        # The volume of the unit ball is the unit; the mean of r^2 in the domain is known too.
        volume = weights * (radii <= 1)
        error = volume.std() / np.sqrt(len(volume))
        assert 5 * error <= 0.1
        assert abs(volume.mean() - 1) <= 5 * error
        moment = np.average(radii**2, weights=weights)
        assert abs(moment / (dimensions / (dimensions + 2) * radius**2) - 1) < 0.02


def test_soft_thresholding():
    found = soft_threshold(Asked(0), eta=0.4, steps=1500, batch=64, rate=0.02)
    assert found["largest_error"] < 0.03
    assert np.allclose(found["without"] - 0.4, found["exact"], atol=0.41)
    assert found["exact"].min() == 0
    broken = soft_threshold(Asked(0, broken=True), eta=0.4, steps=1500, batch=64, rate=0.02)
    assert 0.3 < broken["largest_error"] < 0.5


def test_a_few_steps_on_the_ball():
    found = denoise_ball(Asked(0), eta=0.25, **TINY)
    # The two Frobenius norms bound the nuclear norm whatever the factors are.
    assert found["surrogate_ratio"] >= 1
    broken = denoise_ball(Asked(0, broken=True), eta=0.25, **TINY)
    assert found["profile"].shape == broken["profile"].shape == found["radii"].shape
    assert not np.array_equal(broken["profile"], found["profile"])
