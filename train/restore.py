"""A trained model again, from the workdir of its run: for measurements after training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train import config as configs
from train import records
from train.checkpoints import tree_digest
from train.errors import WorkdirError
from train.parallel import make_mesh
from train.prepare import begun_alike, prepare
from train.progress import Reporter
from train.step import init_state
from train.tables import read_tables

if TYPE_CHECKING:
    from train.data import Dataset
    from train.problem import Problem
    from train.sections import Config


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        weights: the pair (params, state) that the task's `network` takes.
    """

    config: Config
    dataset: Dataset
    problem: Problem
    weights: tuple[Any, Any]


def restore(workdir: Path) -> Trained:
    """Return the model that a finished run ended with.

    Raises:
        WorkdirError: the run is not finished, or its last checkpoint is gone or another's.
    """
    summary = records.read_json(workdir / records.SUMMARY) or {}
    if summary.get("status") != "finished":
        raise WorkdirError(f"{workdir}: holds no finished run; finish it first.")
    path = workdir / records.CONFIG
    return restored(configs.parse(read_tables(path), str(path)), workdir)


def restored(config: Config, workdir: Path) -> Trained:
    """Return the model that the finished run of a config ended with.

    Raises:
        WorkdirError: its last checkpoint is gone or another's, or the run was begun with other
            data, another model or another optimiser.
    """
    summary = records.read_json(workdir / records.SUMMARY) or {}
    reporter = Reporter(config.experiment.name, config.training.steps)
    quiet = Reporter(config.experiment.name, config.training.steps, quiet=True)
    prepared = prepare(config, make_mesh(config), workdir, quiet)
    begun_alike(prepared, workdir)
    loop, problem = prepared.loop, prepared.problem
    like = init_state(problem.params, problem.state, loop.optimizer, loop.metric_names)
    found = loop.checkpoints.restore(like, reporter.say)
    if found is None or tree_digest(found[1].params) != summary.get("params_sha256"):
        raise WorkdirError(
            f"{workdir}: its last checkpoint is gone or is not that of the finished run."
        )
    return Trained(config, prepared.dataset, problem, (found[1].params, found[1].model_state))
