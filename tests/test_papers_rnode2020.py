"""Finlay et al. 2020 as a paper: its plan, its statistics, and what the flow task gives it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg.flow
from train import config, data
from train.config import parse
from train.reproduce import Results, Settings
from train.reproduce.papers import PAPERS
from train.reproduce.papers.rnode2020._effort import curve, effort_ratio, first_below
from train.tasks import make_problem

PAPER = PAPERS["rnode2020"]()
KEYS = (jax.random.key(1), jax.random.key(2))


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_config_loads_with_its_overrides(scale):
    settings = Settings(scale=scale, seeds=1, data={"red-wine": "folder"})
    jobs = PAPER.jobs(settings)
    weights = {}
    for job in jobs:
        assert job.config is not None
        loaded = config.load(job.config, job.overrides)
        weights[job.arm] = tuple(each.weight for each in loaded.penalty)
    assert weights["adaptive/vanilla"] == weights["red-wine/vanilla"] == (0, 0)
    assert weights["fixed/rnode"] == weights["red-wine/rnode"] == (0.01, 0.01)
    assert len({job.name for job in jobs}) == len(jobs)


def test_a_broken_run_has_the_same_run_in_both_arms():
    # So every ratio about the penalties is 1 and every difference 0: such claims cannot hold.
    found = {}
    for job in PAPER.jobs(Settings(seeds=1, data={"red-wine": "folder"})):
        assert job.config is not None
        loaded = config.load(job.config, job.asked(True))
        penalties = tuple(dataclasses.replace(each, weight=0.0) for each in loaded.penalty)
        found[job.arm] = dataclasses.replace(loaded, penalty=penalties)
    for pair in ("adaptive", "fixed", "red-wine"):
        assert found[f"{pair}/rnode"] == found[f"{pair}/vanilla"]
    assert found["adaptive/rnode"] != found["fixed/rnode"]


def test_claims():
    claims = PAPER.claims(Settings(data={"red-wine": "folder"}))
    assert len({claim.id for claim in claims}) == len(claims)
    assert all(claim.place and claim.claim for claim in claims)
    assert sum(claim.about_penalty for claim in claims) >= 3
    assert any("red-wine" in reason for reason in PAPER.left_out(Settings()))


def test_what_is_spent_until_a_level():
    lines = [
        {"step": 10, "train/nfe": 2.0, "test/nll": 5.0},
        {"step": 20, "train/nfe": 4.0, "test/nll": 3.0},
        {"step": 25, "train/nfe": 8.0},
    ]
    spent, nll = curve(lines)
    np.testing.assert_allclose(spent, [20, 60])
    np.testing.assert_allclose(nll, [5, 3])
    assert first_below(spent, nll, 4.0) == 40
    assert first_below(spent, nll, 6.0) == 20
    assert np.isnan(first_below(spent, nll, 2.0))


def test_effort_is_compared_at_the_level_that_both_reach():
    class Found(Results):
        def __init__(self):
            self.seeds = {"a": [0], "b": [0]}

        def lines(self, arm, seed):
            ends = {"a": (4.0, 2.0), "b": (4.0, 3.0)}[arm]
            return [
                {"step": 10 * (at + 1), "train/nfe": {"a": 1.0, "b": 2.0}[arm], "test/nll": nll}
                for at, nll in enumerate(ends)
            ]

    # The level is 3: a is there halfway between 10 and 20, b at 40.
    np.testing.assert_allclose(effort_ratio(Found(), "a", "b"), [15 / 40])


def tiny(**task):
    tables = {
        "experiment": {"name": "tiny"},
        "data": {"name": "two-moons", "batch_size": 16, "num_examples": 64, "num_test": 16},
        "model": {"name": "flow", "hidden": [8]},
        "task": {"name": "flow", "num_samples": 4, "grid": 0, "solver": "rk4", **task},
        "training": {"steps": 1},
    }
    made = parse(tables, "x")
    return make_problem(made, data.load(made.data))


def test_errors_of_fixed_steps_fall_with_the_fourth_power():
    made = tiny(step_sizes=[1.0, 0.5], integrals="always")
    params = jax.tree.map(lambda leaf: 3 * leaf, made.params)
    found = made.evaluate(params, made.state, False)
    assert {"test/jacobian_norm", "test/kinetic_energy"} <= set(found)
    found = made.evaluate(params, made.state, True)
    coarse, fine = found["test/rk4_error@1"], found["test/rk4_error@0.5"]
    assert coarse > 1e-3
    assert 6 < coarse / fine < 60


def test_the_weight_of_the_divergence(monkeypatch):
    def solved(field, zs, **options):
        ones = jnp.ones(len(zs))
        counts = (jnp.int32(7), jnp.int32(1))
        return jacreg.flow.FlowResult(
            5 * ones, zs, None, None, *counts, jnp.asarray(True), jnp.zeros(())
        )

    monkeypatch.setattr(jacreg.flow, "log_density", solved)
    losses = {}
    for weight in (0.0, 0.25, 1.0):
        made = tiny(divergence_weight=weight)
        xs, _ = made.prepare({"inputs": made.examples["inputs"][:8]})
        losses[weight] = made.objective(made.params, made.state, xs, None, KEYS, jnp.int32(0))[0]
    latents = np.asarray(xs, np.float64)
    normal = np.mean(0.5 * np.sum(latents**2, axis=1) + np.log(2 * np.pi))
    np.testing.assert_allclose(losses[1.0], -5, rtol=1e-6)
    np.testing.assert_allclose(losses[0.0], normal, rtol=1e-5)
    np.testing.assert_allclose(losses[0.25], 0.25 * -5 + 0.75 * normal, rtol=1e-5)
