"""What a projection costs: steps with and without it, taken in turns by one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.optimizers import make_optimizer
from train.reproduce import Asked
from train.reproduce.timing import timed
from train.restore import restore
from train.step import StepKeys, init_state, make_step

_ROUNDS, _STEPS = 15, 10


def overhead(asked: Asked, *, plain: str, penalised: str) -> Mapping[str, Any]:
    """Time training steps of two arms from where their runs ended, on a batch of the config's size.

    The runs' own times would compare one moment of the machine with another.

    Returns:
        `plain_ms` and `penalised_ms`, medians over the rounds, and `ratio`, the median of the
        ratios of neighbours.
    """
    steps = [_step(asked.runs / arm / str(asked.seed)) for arm in (plain, penalised)]
    for step in steps:
        step()  # compiled and warm
    readings = np.asarray([[timed(step) for step in steps] for _ in range(_ROUNDS)])
    medians = 1000 * np.median(readings, 0)
    return {
        "plain_ms": medians[0],
        "penalised_ms": medians[1],
        "ratio": np.median(readings[:, 1] / readings[:, 0]),
    }


def _step(run: Path) -> Callable[[], Any]:
    """Return a call that takes some steps of a finished run's config."""
    found = restore(run)
    config, problem = found.config, found.problem
    optimizer = make_optimizer(config.optimizer, config.training.steps)
    rows = {
        name: jnp.asarray(array[: config.data.batch_size])
        for name, array in problem.examples.items()
    }
    batch = problem.prepare(rows)
    keys = StepKeys.of(config.experiment.seed)
    state = init_state(*found.weights, optimizer, ["loss"])
    taken = jax.jit(make_step(problem.objective, optimizer), donate_argnums=0)

    def call() -> Any:
        nonlocal state
        for _ in range(_STEPS):
            state = taken(state, *batch, keys)
        return jax.block_until_ready(state)

    return call
