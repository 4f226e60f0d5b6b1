"""Grathwohl et al. 2019 as a paper: its plan, its measurements and its statistics."""

import numpy as np
import pytest

from train import config, figures, records
from train.reproduce import Asked, Job, Results, Settings
from train.reproduce.papers import PAPERS
from train.reproduce.papers.ffjord2019._claims import closed, gaussian_nll
from train.reproduce.papers.ffjord2019._figures import densities
from train.reproduce.papers.ffjord2019._measure import cost, one_probe

PAPER = PAPERS["ffjord2019"]()


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_config_loads_with_its_overrides(scale):
    jobs = PAPER.jobs(Settings(scale=scale, seeds=1, data={"red-wine": "folder"}))
    names = set()
    for job in jobs:
        if job.config is not None:
            loaded = config.load(job.config, job.asked(True))
            assert loaded.task.options["divergence_weight"] == 0
            names.add(loaded.data.name)
    assert len(names) == 9
    assert len({job.name for job in jobs}) == len(jobs)


def test_claims():
    claims = PAPER.claims(Settings(data={"red-wine": "folder"}))
    assert len({claim.id for claim in claims}) == len(claims)
    assert all(claim.place and claim.claim for claim in claims)
    assert sum(claim.about_penalty for claim in claims) >= 3
    (baseline,) = (claim for claim in claims if claim.id == "red-wine-beats-a-gaussian")
    assert abs(baseline.below - 5.5 * np.log(2 * np.pi * np.e)) < 1e-9


def test_one_probe_is_unbiased_unless_broken():
    found = one_probe(Asked(0), dimensions=2, points=4)
    assert found["bias"] < 1e-5
    assert found["deviation"] > 1e-3
    assert one_probe(Asked(0, broken=True), dimensions=2, points=4)["bias"] > 1e-3


def test_cost_records_every_divergence():
    names = ("plain", "one-probe")
    found = cost(Asked(0), dimensions=(2, 3), width=4, batch=2, repeats=1, names=names)
    assert found["seconds/one-probe"].shape == (2,)
    assert np.isfinite(found["exponent/one-probe"])


def test_the_way_from_a_gaussian_to_the_truth(tmp_path):
    arm, rng = "plane/x", np.random.default_rng(0)
    points = rng.normal(size=(500, 2)) * [2.0, 0.5]
    results = Results(Settings(), [Job(arm, 0)], tmp_path)
    folder = results.workdir(arm, 0)
    records.write_arrays(folder / figures.DENSITY, {"examples": points})
    covariance = np.cov(points.T)
    centred = points - points.mean(0)
    squares = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    truth = np.mean(0.5 * squares * 500 / 499 + 0.5 * log_det)
    np.testing.assert_allclose(gaussian_nll(results, arm, 0), truth, rtol=1e-6)
    metrics = {"test/nll": truth - 0.3, "test/true_nll": truth - 0.4}
    records.write_json(folder / records.SUMMARY, {"metrics": metrics})
    np.testing.assert_allclose(closed(results, arm), [0.75], rtol=1e-4)


def test_the_picture_of_densities(tmp_path):
    points = np.random.default_rng(0).normal(size=(20, 2))
    arrays = {
        "examples": points,
        "samples": points,
        "density": np.ones((4, 4)),
        "extent": np.asarray([-2.0, 2.0, -2.0, 2.0]),
    }
    assert densities({"x": arrays}, tmp_path / "x.png").stat().st_size > 1000
