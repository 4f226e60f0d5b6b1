"""Steps of several seeds: one after another against all in one program by vmap.

Four seeds of LeNet' and of an MLP with one projection, each on its own batch. `python -m
train.seeds` takes them one after another, on every platform; where vmap is the faster plan, the
row falls short.
"""

from __future__ import annotations

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
                most=1.0, agreement=agreement,
            )
        )  # fmt: skip
    return rows


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
