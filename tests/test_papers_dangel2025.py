"""Dangel et al. 2025 as a paper: four ways to equal numbers, memory counted, slopes read."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.reproduce import Results, Settings, judge
from train.reproduce._job import perform
from train.reproduce.papers import PAPERS
from train.reproduce.papers.dangel2025 import _measure

PAPER = PAPERS["dangel2025"]()
HIDDEN = (32, 32, 1)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = Settings(seeds=2)
    jobs = PAPER.jobs(settings)
    for job in jobs:
        if job.seed == 1:  # An interval needs two; what is tested needs one.
            shutil.copytree(folder / "runs" / job.arm / "0", folder / "runs" / job.name)
            continue
        job.options.update(hidden=HIDDEN, batches=(2, 4))
        if "weighted" in job.options:
            job.options.update(inputs=8)
        if job.arm.startswith("memory/"):
            job.options.update(batches=(8, 16))
        perform(job, folder / "runs" / job.name, False)
    return Results(settings, jobs, folder)


def test_the_ways_are_the_dense_hessian_weighted(x64):
    energy = _measure._network(jax.random.key(0), (4, 6, 5, 1))
    x = jax.random.normal(jax.random.key(1), (4,))
    weights = jnp.asarray([0.5, -1.0, 2.0, 0.0])
    expected = weights @ jnp.diagonal(jax.hessian(energy)(x))
    for found in (
        _measure._nested(energy, weights)(x),
        _measure._standard(energy, weights)(x),
        _measure._collapsed(energy, weights)(x[None])[0],
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_biharmonic_is_that_of_a_polynomial(x64):
    def quartic(xs):  # Its biharmonic is 24 (1 + 1 + 1) + 2 * 4 = 80.
        return (xs**4).sum(-1) + xs[..., 0] ** 2 * xs[..., 1] ** 2

    x, ones = jnp.asarray([0.3, -0.2, 1.1]), jnp.ones(3)
    nested = _measure._nested(_measure._nested(quartic, ones), ones)(x)
    collapsed = _measure._collapsed(_measure._collapsed(quartic, None), None)(x[None])[0]
    np.testing.assert_allclose([nested, collapsed], 80, rtol=1e-10)


def test_equal_values_and_less_memory(results):
    for arm in ("laplacian", "weighted", "biharmonic"):
        assert results.metric(arm, "error")[0] < 1e-4
    # Bytes are the compiler's, so exact; times on a busy machine are no test.
    for arm in ("memory/laplacian", "memory/biharmonic"):
        assert 0 < results.metric(arm, "collapsed_mib")[0] < results.metric(arm, "nested_mib")[0]


def test_every_array_is_planned():
    """Fused into a library's call, the arrays between two products would not be counted."""
    first, second = (jax.random.normal(jax.random.key(n), (64, 64)) for n in range(2))

    def squares(xs):
        return ((jnp.tanh((xs @ first) ** 2) @ second) ** 2).sum(1)

    assert _measure._planned_bytes(squares, jnp.ones((256, 64))) >= 4 * 256 * 64


def test_claims_are_of_ratios_and_of_equality(results):
    verdicts = [judge(claim, results) for claim in PAPER.claims(results.settings)]
    assert len(verdicts) == 11
    published = {v.claim.id: v.claim.paper for v in verdicts if v.claim.paper != "ours"}
    assert published["laplacian-time-nested"] == pytest.approx(0.290 / 0.609)
    assert published["laplacian-memory-standard"] == pytest.approx(2.06 / 4.55)
    assert len(published) == 5


def test_wrong_numbers_are_seen():
    ways = {"nested": lambda xs: xs.sum(1), "collapsed": lambda xs: 1.01 * xs.sum(1)}
    found = _measure._costs(ways, jnp.ones((4, 3)), (2, 4))
    assert found["error"] == pytest.approx(0.01, rel=1e-3)


def test_table_and_picture(results, tmp_path):
    (table,) = PAPER.tables(results)
    assert len(table.rows) == 16
    [(name, _)] = PAPER.figures(results, tmp_path)
    assert (tmp_path / name).stat().st_size > 5000
