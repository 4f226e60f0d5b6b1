"""Song et al. 2019 as a paper: its plan, its measurements, and what the score task gives it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import config, data
from train.config import parse
from train.data import SCORES
from train.reproduce import Asked, Settings
from train.reproduce.papers import PAPERS
from train.reproduce.papers.ssm2019._measure import (
    all_signs,
    cost,
    gradient,
    mixture_score,
    slices,
)
from train.tasks import make_problem

PAPER = PAPERS["ssm2019"]()
KEYS = (jax.random.key(1), jax.random.key(2))


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_config_loads_with_its_overrides(scale):
    jobs = PAPER.jobs(Settings(scale=scale, seeds=1, data={"red-wine": "folder"}))
    losses = {}
    for job in jobs:
        if job.config is not None:
            losses[job.arm] = config.load(job.config, job.overrides).task.options["loss"]
            broken = config.load(job.config, job.asked(True))
            assert broken.task.options["divergence_weight"] == 0
    assert losses["mixture-8/exact"] == losses["red-wine/exact"] == "implicit"
    assert losses["mixture-8/sliced-vr-8"] == "sliced_vr"
    assert losses["mixture-2/sliced"] == "sliced"
    assert len({job.name for job in jobs}) == len(jobs)


def test_claims():
    claims = PAPER.claims(Settings(data={"parkinsons": "folder"}))
    assert len({claim.id for claim in claims}) == len(claims)
    assert all(claim.place and claim.claim for claim in claims)
    assert sum(claim.about_penalty for claim in claims) >= 3
    (baseline,) = (claim for claim in claims if claim.id == "parkinsons-beats-a-gaussian")
    assert baseline.below == -7.5
    assert any("red-wine" in reason for reason in PAPER.left_out(Settings()))


def test_all_signs_are_an_exact_mean():
    signs = all_signs(3)
    np.testing.assert_array_equal(signs.T @ signs, 8 * np.eye(3))


def test_the_mixtures_score_is_the_data_sets():
    xs = np.random.default_rng(0).normal(size=(6, 3))
    found = jax.jit(mixture_score(3))(jnp.asarray(xs, jnp.float32))
    np.testing.assert_allclose(found, SCORES["gaussian-mixture"](xs), rtol=1e-4, atol=1e-4)


def test_slices_agree_with_the_exact_loss_unless_broken():
    found = slices(Asked(0), dimensions=3, points=8)
    assert found["bias"] < 1e-5
    assert found["bias_vr"] < 1e-5
    assert 0 < found["variance_vr"] < found["variance"]
    assert slices(Asked(0, broken=True), dimensions=3, points=8)["bias_vr"] > 0.1


def test_cost_records_every_loss():
    losses = ("plain", "sliced-vr")
    found = cost(Asked(0), dimensions=(2, 3), width=4, batch=2, repeats=1, losses=losses)
    assert found["seconds/sliced-vr"].shape == (2,)
    assert found["exponent/plain"] == 0
    assert found["overhead/plain"] == 1
    assert np.isfinite(found["exponent/sliced-vr"])


def test_the_exact_loss_takes_a_product_a_dimension():
    """As the paper's; what jacreg chooses by itself for this network takes none."""
    flops = {}
    for name in ("plain", "exact", "automatic"):
        step, arguments = gradient(name, 16, 0, 8, 4)
        flops[name] = jax.jit(step).lower(*arguments).cost_analysis()["flops"]
    assert flops["automatic"] < 4 * flops["plain"]
    assert flops["exact"] > 8 * flops["plain"]


def tiny(**task):
    tables = {
        "experiment": {"name": "tiny"},
        "data": {"name": "gaussian", "num_examples": 64, "num_test": 16, "batch_size": 16},
        "model": {"name": "score_mlp", "hidden": [8]},
        "task": {"name": "score", **task},
        "training": {"steps": 1},
        "evaluation": {"jacobian": False},
    }
    made = parse(tables, "x")
    return make_problem(made, data.load(made.data))


def loss_of(made, params):
    xs, _ = made.prepare({"inputs": made.examples["inputs"][:16]})

    @jax.jit
    def objective(params):
        return made.objective(params, made.state, xs, None, KEYS, jnp.int32(0))[0]

    return objective(params)


@pytest.mark.parametrize(
    "task",
    [{"loss": "implicit", "method": "exact"}, {"loss": "sliced"}],
    ids=lambda task: task["loss"],
)
def test_without_the_divergence_the_square_is_left(task):
    made, broken = tiny(**task), tiny(**task, divergence_weight=0.0)
    half = tiny(**task, divergence_weight=0.5)
    whole, bare = loss_of(made, made.params), loss_of(broken, made.params)
    np.testing.assert_allclose(loss_of(half, made.params), (whole + bare) / 2, rtol=1e-5)
    # The square's gradient vanishes where the score is 0; that of the divergence does not.
    zeros = jax.tree.map(jnp.zeros_like, made.params)
    assert float(loss_of(broken, zeros)) == 0
    slopes = jax.grad(lambda params: loss_of(broken, params))(zeros)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(slopes))
    np.testing.assert_allclose(bare, loss_of(tiny(divergence_weight=0.0), made.params), rtol=1e-6)
    assert abs(float(whole) - float(bare)) > 1e-3


def test_denoising_without_the_divergence_is_the_same_square_at_noisy_points():
    task = {"loss": "denoising", "scale": 1e-4}
    bare = loss_of(tiny(**task, divergence_weight=0.0), tiny().params)
    clean = loss_of(tiny(divergence_weight=0.0), tiny().params)
    np.testing.assert_allclose(bare, clean, rtol=1e-2)


def test_the_true_scores_mean_square_is_evaluated():
    made = tiny()
    zeros = jax.tree.map(jnp.zeros_like, made.params)
    found = made.evaluate(zeros, made.state, True)
    np.testing.assert_allclose(
        found["test/score_error"], found["test/true_score_squared"], rtol=1e-5
    )
