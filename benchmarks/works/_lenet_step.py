"""The training step of LeNet' as `python -m train configs/quickstart.toml` takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jacreg
from train import data
from train.config import load
from train.objective import Objective
from train.optimizers import make_optimizer
from train.problem import Problem
from train.step import StepKeys, init_state, make_step
from train.tasks import make_problem

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "quickstart.toml"
BATCH = 100
PLAIN = "penalty.0.weight=0"


class Step:
    """A training step, compiled once, that goes on from its own state, always on the same rows.

    Args:
        overrides: of the config, such as `penalty.0.weight=0`.
        batch: rows a step.
        fraction: of the rows that the penalty sees, by `jacreg.losses.subsample`.

    Attributes:
        problem: of the task.
        config: resolved.
        weight: of the penalty.
        xs, labels: the batch, on the device.
        keys: of the run.
    """

    def __init__(self, *overrides: str, batch: int = BATCH, fraction: float | None = None) -> None:
        given = (f"data.batch_size={batch}", *overrides)
        self.weight = load(CONFIG, given).penalty[0].weight
        # The penalty on some rows is no config key: it is added to the objective without it.
        self.config = config = load(CONFIG, [*given, *([] if fraction is None else [PLAIN])])
        dataset = data.load(config.data)
        self.problem = problem = make_problem(config, dataset)
        rows = {name: jnp.asarray(each[:batch]) for name, each in problem.examples.items()}
        xs, self.labels = problem.prepare(rows)
        # Noise, because the windows of a blank background hold equal maxima, of which PyTorch
        # gives the first the whole gradient.
        self.xs = jax.block_until_ready(xs + 0.01 * jax.random.normal(jax.random.key(1), xs.shape))
        self.keys = StepKeys.of(config.experiment.seed)
        self.objective = problem.objective
        if fraction is not None:
            self.objective = _subsampled(problem, fraction, self.weight)
        self.optimizer = make_optimizer(config.optimizer, config.training.steps)
        self.state = init_state(problem.params, problem.state, self.optimizer, ["loss"])

        self.taken = 0
        self._programs: dict[Any, Any] = {}

    def _compiled(self) -> Any:
        """Return the program of the next step, as the loop picks it."""
        objective = self.objective
        if isinstance(objective, Objective):
            objective = objective.at(self.taken)
        if objective not in self._programs:
            step = jax.jit(make_step(objective, self.optimizer), donate_argnums=0)
            lowered = step.lower(self.state, self.xs, self.labels, self.keys)
            self._programs[objective] = lowered.compile()
        return self._programs[objective]

    def __call__(self) -> Any:
        """Take one step."""
        self.state = self._compiled()(self.state, self.xs, self.labels, self.keys)
        self.taken += 1
        return self.state

    def several(self, count: int) -> Callable[[], Any]:
        """Return a call that takes so many steps, queued as the loop queues them."""

        def call() -> Any:
            for _ in range(count):
                self()
            return self.state

        return call


def _subsampled(problem: Problem, fraction: float, weight: float) -> Callable[..., Any]:
    """Return the plain objective and the penalty on some rows, as `subsample` is documented."""
    objective, network = problem.objective, problem.network

    def total(params: Any, state: Any, xs: Any, targets: Any, keys: Any, step: Any) -> Any:
        loss, aux = objective(params, state, xs, targets, keys, step)
        pick_key, probe_key = jax.random.split(keys[1])
        rows = jacreg.losses.subsample(xs, fraction, key=pick_key)
        lin = jacreg.linearize(lambda rows: network.logits((params, state), rows), rows)
        penalty = jnp.mean(jacreg.losses.jacobian_penalty(lin, key=probe_key))
        return loss + weight * penalty, aux

    return total
