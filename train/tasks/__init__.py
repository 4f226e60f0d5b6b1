"""Tasks by name. Adding one is adding a file and its row in `TASKS`.

A row is `(setting, dataset, *, options) -> Problem`; its keyword-only parameters are
the further keys of `[task]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from train.batches import Batches
from train.problem import Problem, Setting
from train.tasks._autoencoder import autoencoder
from train.tasks._classification import classification
from train.tasks._equilibrium import equilibrium
from train.tasks._flow import flow
from train.tasks._regression import regression
from train.tasks._score import score

if TYPE_CHECKING:
    from train.data import Dataset
    from train.sections import Config

TASKS: Mapping[str, Callable[..., Problem]] = {
    "classification": classification,
    "equilibrium": equilibrium,
    "flow": flow,
    "regression": regression,
    "score": score,
    "autoencoder": autoencoder,
}


def make_problem(config: Config, dataset: Dataset, batches: Batches | None = None) -> Problem:
    """Return the problem of `[task]` on a data set.

    Args:
        batches: how the evaluation goes through examples; None: on one device, unwatched.

    Raises:
        ConfigError: task, data, model and penalties do not fit together.
    """
    setting = Setting(
        seed=config.experiment.seed,
        data=config.data,
        model=config.model,
        penalty=config.penalty,
        training=config.training,
        evaluation=config.evaluation,
        batches=batches or Batches(config.evaluation.batch_size),
    )
    return TASKS[config.task.name](setting, dataset, **config.task.options)
