"""Hyvarinen 2005 as a paper: its plan, and its measurements against closed forms."""

import numpy as np
import pytest

from train import config
from train.reproduce import Asked, Settings
from train.reproduce.papers import PAPERS
from train.reproduce.papers.hyvarinen2005._measure import gaussian_model, quadrature, theorem

PAPER = PAPERS["hyvarinen2005"]()


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_config_loads_with_its_overrides(scale):
    jobs = PAPER.jobs(Settings(scale=scale, seeds=1, data={"red-wine": "folder"}))
    for job in jobs:
        if job.config is not None:
            loaded = config.load(job.config, job.asked(True))
            assert loaded.task.options["loss"] == "implicit"
            assert loaded.task.options["divergence_weight"] == 0
    assert {"theorem", "gaussian-model", "cost", "table/red-wine"} <= {job.arm for job in jobs}
    assert len({job.name for job in jobs}) == len(jobs)


def test_claims():
    claims = PAPER.claims(Settings(data={"white-wine": "folder"}))
    assert len({claim.id for claim in claims}) == len(claims)
    assert all(claim.place and claim.claim for claim in claims)
    assert sum(claim.about_penalty for claim in claims) >= 3
    (baseline,) = (claim for claim in claims if claim.id == "white-wine-beats-a-gaussian")
    assert baseline.below == -5.5


def test_the_quadrature_has_the_mixtures_moments():
    points, weights = quadrature(10)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
    # Means -2, 0, 2 along the diagonal with weights 1/6, 2/6, 3/6: the mean is 2/3 along it.
    diagonal = np.full(2, 0.5**0.5)
    np.testing.assert_allclose(weights @ points, 2 / 3 * diagonal, rtol=1e-12)
    along = points @ diagonal
    np.testing.assert_allclose(weights @ along**2, 0.25 + 4 * 4 / 6, rtol=1e-12)


def test_the_theorem_holds_unless_broken():
    assert theorem(Asked(3), nodes=30, fields=2)["residual"] < 1e-4
    assert theorem(Asked(3, broken=True), nodes=30, fields=2)["residual"] > 0.01


def test_a_gaussian_is_fitted_by_its_sample_covariance_unless_broken():
    found = gaussian_model(Asked(0), dimensions=2, counts=(50, 500), draws=2)
    assert found["to_sample"] < 1e-4
    assert found["to_truth"].shape == (2,)
    assert found["to_truth"][1] < found["to_truth"][0]
    broken = gaussian_model(Asked(0, broken=True), dimensions=2, counts=(50, 500), draws=2)
    assert broken["to_sample"] == 1
    assert broken["exponent"] == 0
