"""Rifai et al. 2011 as a paper: its table, and the geometry of an encoder against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import BASE, train_cache  # noqa: F401

from train.config import load, parse
from train.data import load as load_data
from train.reproduce import Settings
from train.reproduce.papers import PAPERS
from train.tasks import make_problem
from train.tasks._autoencoder_geometry import DISTANCES, make_geometry

PAPER = PAPERS["rifai2011"]()


def test_a_linear_encoder():
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    xs = jnp.asarray(rng.normal(size=(5, 6)), jnp.float32)
    found = make_geometry(lambda weights: lambda xs: xs @ weights, xs)(kernel)
    values = np.linalg.svd(np.asarray(kernel), compute_uv=False)
    assert np.isclose(found["singular_value_1"], values[0], rtol=1e-4)
    assert np.isclose(found["singular_value_2"], values[1], rtol=1e-4)
    assert "singular_value_5" not in found
    assert found["large_singular_values"] == np.sum(values > 0.1 * values[0])
    ratios = [found[f"contraction_at_{distance:g}"] for distance in DISTANCES]
    # The same at every distance, between the extreme singular values.
    assert np.allclose(ratios, ratios[-1], rtol=1e-3)
    assert values[-1] < ratios[0] < values[0]
    assert found["hessian"] < 1e-4


def test_a_saturating_encoder_contracts_far_away():
    xs = jnp.zeros((4, 3))
    found = make_geometry(lambda weights: lambda xs: jnp.tanh(xs @ weights), xs)(jnp.eye(3))
    assert np.isclose(found["contraction_at_0.1"], 1, atol=0.01)
    assert found["contraction_at_30"] < 0.1
    assert found["large_singular_values"] == 3
    # At 0 the slope falls by z^2: its change has the mean square 3 E z^4 = 9 scale^4.
    assert 0.05 < found["hessian"] / (3 * 0.1) < 2


@pytest.mark.usefixtures("train_cache")
def test_the_task_records_it_before_fine_tuning():
    made = parse(
        {
            **BASE,
            "model": {"name": "autoencoder", "hidden": [6]},
            "task": {"name": "autoencoder", "pretrain_steps": 4, "geometry_examples": 3},
            "penalty": [{"name": "dense_contractive", "weight": 0.1}],
            "training": {"steps": 6, "log_every": 2},
            "evaluation": {"jacobian_examples": 10},
        },
        "x",
    )
    problem = make_problem(made, load_data(made.data))
    (phase,) = problem.earlier
    metrics = phase.evaluate(problem.params, problem.state)
    assert metrics["pretrain/contraction_at_1"] > 0
    assert 0 < metrics["pretrain/singular_value_5"] <= metrics["pretrain/singular_value_2"]


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_arm_trains_what_its_row_says(scale):
    jobs = PAPER.jobs(Settings(scale=scale, seeds=1))
    tasks = {job.arm: load(job.config, job.overrides) for job in jobs}  # pyright: ignore[reportArgumentType]
    names = {arm: [penalty.name for penalty in made.penalty] for arm, made in tasks.items()}
    assert names == {
        "cae": ["dense_contractive"],
        "dae-g": [],
        "dae-b": [],
        "ae-wd": ["weight_decay"],
        "ae": [],
        "cae-h": ["dense_contractive", "contractive_hessian"],
    }
    kinds = {arm: made.task.options["corruption"].name for arm, made in tasks.items()}
    assert (kinds["dae-g"], kinds["dae-b"], kinds["ae"]) == ("gaussian", "masking", "none")
    assert {made.task.options["geometry_examples"] for made in tasks.values()} == {20}


def test_the_papers_ratio_of_norms():
    claims = {claim.id: claim for claim in PAPER.claims(Settings())}
    assert round(float(claims["cae-norm-below-ae"].paper)) == 24
    assert round(float(claims["cae-error-below-ae"].paper), 2) == -0.64
