"""Mescheder et al. 2018 as a paper: the Dirac-GAN against closed forms, intact and broken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.reproduce import Results, Settings, judge
from train.reproduce._job import perform
from train.reproduce.papers import PAPERS
from train.reproduce.papers.mescheder2018 import _dirac

PAPER = PAPERS["mescheder2018"]()


@pytest.fixture(scope="module", params=[False, True], ids=["intact", "broken"])
def results(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = Settings(seeds=3, broken=request.param)
    jobs = PAPER.jobs(settings)
    for job in jobs:
        perform(job, folder / "runs" / job.name, request.param)
    return Results(settings, jobs, folder)


def test_the_field_is_the_one_written_by_hand(x64):
    random = np.random.default_rng(0)
    states, gammas = random.normal(size=(7, 2)), random.uniform(0, 2, 7)
    theta, psi = states.T
    slope = 1 / (1 + np.exp(psi * theta))
    expected = np.stack([-psi * slope, theta * slope - gammas * psi], axis=1)
    found = _dirac.field(jnp.asarray(states), jnp.asarray(gammas))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert jax.grad(jax.nn.log_sigmoid)(0.0) == _dirac.SLOPE


def test_the_derived_eigenvalues_are_those_of_the_matrix_by_hand():
    for gamma, pair in zip(_dirac.GAMMAS, _dirac.derived(_dirac.GAMMAS), strict=True):
        matrix = np.asarray([[0, -0.5], [0.5, -gamma]])
        np.testing.assert_allclose(pair.sum(), np.trace(matrix), atol=1e-14)
        np.testing.assert_allclose(pair.prod(), np.linalg.det(matrix), atol=1e-14)


def test_the_distance_of_pairs_does_not_depend_on_their_order_and_sees_a_millionth():
    expected = _dirac.derived((0.5, 1.0, 2.0))
    assert not _dirac.mismatch(expected[:, ::-1], expected).any()
    assert (_dirac.mismatch(_dirac.derived((0.50001, 1.00001, 2.00001)), expected) > 1e-6).all()


def test_claims_hold_and_those_about_the_penalty_fall_without_it(results):
    claims = PAPER.claims(results.settings)
    assert {claim.about_penalty for claim in claims} == {True, False}
    for claim in claims:
        held = judge(claim, results).holds
        assert held == (not (results.settings.broken and claim.about_penalty)), claim.id
    assert len(PAPER.tables(results)[0].rows) == 6


def test_both_pictures_are_drawn(results, tmp_path):
    if results.settings.broken:
        pytest.skip("drawn of the intact run")
    for name, caption in PAPER.figures(results, tmp_path):
        assert (tmp_path / name).stat().st_size > 10_000
        assert caption
