"""Several seeds: a step of four by vmap or one after another, and the whole of `train.seeds`.

The steps are those of LeNet' and of an MLP with one projection, each on its own batch. `python -m
train.seeds` takes whole runs side by side, on a CPU each on a core of its own; beside it the same
command takes them one after another, each on all cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, timed
from benchmarks.works._lenet_step import Step
from train.optimizers import make_optimizer
from train.run import use_compilation_cache
from train.step import StepKeys, init_state, make_step

_SEEDS = 4
_BATCH = 50
_TOLERANCE = 1e-3  # float32 after three steps
_MLP = ('model.name="mlp"',)
_ROOT = Path(__file__).resolve().parents[2]
_STEPS, _ROUNDS = 300, 3
_EQUAL = ("test/jacobian_norm", "test/loss")  # smooth in the weights
_SAME_RUN = 0.1  # other threads round in another order, and 300 steps make more of it


class Seeds:
    """The steps of several seeds by both plans, each from its own states."""

    def __init__(self, *overrides: str) -> None:
        steps = [
            Step(f"experiment.seed={seed}", *overrides, batch=_BATCH) for seed in range(_SEEDS)
        ]
        first = steps[0]
        optimizer = make_optimizer(first.config.optimizer, first.config.training.steps)
        take = make_step(first.problem.objective, optimizer)
        generator = np.random.default_rng(0)
        rows = generator.permuted(np.tile(np.arange(_BATCH), (_SEEDS, 1)), axis=1)
        self.batches = [(first.xs[each], first.labels[each]) for each in rows]
        self.keys = [StepKeys.of(seed) for seed in range(_SEEDS)]
        self.states = [
            init_state(step.problem.params, step.problem.state, optimizer, ["loss"])
            for step in steps
        ]
        one = jax.jit(take, donate_argnums=0)
        self.one = one.lower(self.states[0], *self.batches[0], self.keys[0]).compile()
        self.stacked = _stack(self.states), *_stack(self.batches), _stack(self.keys)
        self.all = jax.jit(jax.vmap(take), donate_argnums=0).lower(*self.stacked).compile()

    def one_after_another(self) -> Any:
        """Take one step of each seed."""
        self.states = [
            self.one(state, *batch, keys)
            for state, batch, keys in zip(self.states, self.batches, self.keys, strict=True)
        ]
        return self.states

    def at_once(self) -> Any:
        """Take one step of all."""
        state, *others = self.stacked
        self.stacked = self.all(state, *others), *others
        return self.stacked[0]

    def agreement(self) -> float:
        """Return the relative difference of the parameters after three steps of each plan."""
        for _ in range(3):
            self.one_after_another()
            self.at_once()
        sequential = jax.tree.leaves(_stack([state.params for state in self.states]))
        vmapped = jax.tree.leaves(self.stacked[0].params)
        return max(
            assert_equal(ours, theirs, _TOLERANCE)
            for ours, theirs in zip(sequential, vmapped, strict=True)
        )


def compare() -> list[Comparison]:
    """Return a row a network."""
    use_compilation_cache()
    rows = []
    for name, overrides in (("LeNet'", ()), ("MLP 784-200-200-10", _MLP)):
        seeds = Seeds(*overrides)
        agreement = seeds.agreement()
        times = in_turns({"in turn": seeds.one_after_another, "at once": seeds.at_once})
        rows.append(
            timed(
                times, "in turn", "at once", work=f"a step of {_SEEDS} seeds, one after another",
                setting=f"{name}, batch {_BATCH}, one projection", peer="all seeds by vmap",
                agreement=agreement, note="the plan is the next row",
            )
        )  # fmt: skip
    return [*rows, _command()]


def _command() -> Comparison:
    """Return the row of the whole command.

    Raises:
        AssertionError: the two plans do not end at equal accuracies.
        RuntimeError: a run fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        _run(Path(scratch) / "first", cache, [])  # compiles
        rounds = []
        for number in range(_ROUNDS):
            alone = _run(Path(scratch) / f"alone-{number}", cache, ["--workers", "1"])
            together = _run(Path(scratch) / f"together-{number}", cache, [])
            for name in _EQUAL:
                assert_equal(together[1][name], alone[1][name], _SAME_RUN)
            rounds.append((together[0], alone[0]))
    ratios = [ours / theirs for ours, theirs in rounds]
    ours, theirs = np.median(rounds, axis=0)
    return Comparison(
        "train.seeds: two seeds with and without the penalty, start to finish",
        f"LeNet' on mnist-5k, {_STEPS} steps", "one after another, each on all cores",
        float(ours), float(theirs), "s", float(np.median(ratios)), min(ratios), max(ratios),
        most=1.0, note=f"lowest and highest of {_ROUNDS} rounds; compiled beforehand",
    )  # fmt: skip


def _run(folder: Path, cache: Path, options: list[str]) -> tuple[float, dict[str, float]]:
    """Run the command; return its seconds and the mean differences that it found."""
    command = [
        sys.executable, "-m", "train.seeds", "configs/quickstart.toml",
        f"training.steps={_STEPS}", "data.name=mnist-5k", "evaluation.decision_cells=false",
        "--seeds", "2", "--workdir", str(folder), *options,
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=_ROOT, env={**os.environ, "JACREG_CACHE": str(cache)}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"train.seeds failed: {done.stderr[-1000:]}")
    found = json.loads((folder / "seeds.json").read_text())["differences"]
    return seconds, {name: interval["mean"] for name, interval in found.items()}


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
