"""A run before its first step: what a config decides, made once and written once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train import data, environment, records
from train.batches import Batches
from train.checkpoints import tree_digest
from train.choices import with_choices
from train.errors import WorkdirError
from train.loop import Loop
from train.optimizers import first_steps
from train.own import described
from train.tables import flat
from train.tasks import make_problem
from train.workdir import record_config

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from train.data import Dataset
    from train.problem import Problem
    from train.progress import Reporter
    from train.sections import Config


# What `environment.json` says of where a run computes.
_WHERE = ("python", "platform", "versions", "device", "commit")


@dataclass(frozen=True)
class Prepared:
    """A run that is ready for its first step.

    Attributes:
        config: with everything that it left open: what `choose` chose stands in it.
        started: the clock when preparing began, `time.perf_counter()`.
    """

    started: float
    config: Config
    dataset: Dataset
    problem: Problem
    loop: Loop


def prepare(
    config: Config,
    mesh: Mesh | None,
    workdir: Path | None,
    reporter: Reporter,
    debug: bool = False,
    dataset: Dataset | None = None,
) -> Prepared:
    """Return the run of a config; nothing is written.

    Args:
        dataset: of the config, where it is at hand.

    Raises:
        ConfigError, DataError: what the config says does not fit together, or cannot be had.
    """
    started = time.perf_counter()
    dataset = data.load(config.data) if dataset is None else dataset
    if config.model.target is not None and config.model.given is None:
        own = described(config.model)
        reporter.say(
            f"{reporter.title}: model.target {config.model.target} is imported from "
            f"{own.get('file', 'no file')}"
        )
    batches = Batches(config.evaluation.batch_size, mesh, reporter.evaluated)
    problem = make_problem(config, dataset, batches)
    for chosen in problem.choices:
        reporter.say(f"{reporter.title}: {chosen.path}:\n{chosen.report}")
    for number, penalty in enumerate(config.penalty):
        if penalty.weight and penalty.statistics == "running" and not problem.rows_independent:
            reporter.say(
                f'{reporter.title}: penalty.{number}.statistics is "running": weights in front of '
                "a norm shrink under such a penalty, and evaluation by running statistics with "
                'them; "held" has no such effect'
            )
    config = with_choices(config, problem.choices)
    loop = Loop(config, problem, workdir, reporter, mesh, debug)
    if loop.batch_size < config.data.batch_size:
        reporter.say(
            f"{reporter.title}: the training split has {loop.batch_size} examples, fewer than "
            f"data.batch_size={config.data.batch_size}: every batch is the whole split"
        )
    return Prepared(started, config, dataset, problem, loop)


def record(prepared: Prepared, workdir: Path) -> list[str]:
    """Write `environment.json` and `config.toml` of a run that begins or goes on.

    Returns:
        What has changed of where it computes since it was here last, `what: old -> new`.

    Raises:
        WorkdirError: it was begun with other data, another model or another optimiser.
    """
    found = begun_alike(prepared, workdir)
    before = records.read_json(workdir / records.ENVIRONMENT) or {}
    records.write_json(workdir / records.ENVIRONMENT, found)
    record_config(workdir, prepared.config)
    old, new = (flat({key: each[key] for key in _WHERE if key in each}) for each in (before, found))
    return [f"{key}: {old[key]} -> {new.get(key)}" for key in old if old[key] != new.get(key)]


def begun_alike(prepared: Prepared, workdir: Path) -> dict[str, Any]:
    """Return what `environment.json` is to say of a run; nothing is written.

    Raises:
        WorkdirError: the folder's run was begun with other data, another model or another
            optimiser.
    """
    config, problem = prepared.config, prepared.problem
    found = environment.describe(prepared.dataset, prepared.loop.batch_size)
    if config.model.target is not None:
        start = tree_digest((problem.params, problem.state))
        found["model"] = {**described(config.model), "start_sha256": start}
    if config.optimizer.given is not None:
        found["optimizer"] = first_steps(config.optimizer.given, problem.params)
    _check_alike(found, workdir)
    return found


def check_own_file(config: Config, workdir: Path) -> None:
    """Raise where the file of `model.target` is no longer the one that a run was begun with.

    Raises:
        WorkdirError: it has changed.
    """
    if config.model.target is not None and config.model.given is None:
        _check_alike({"model": described(config.model)}, workdir)


def _check_alike(found: Mapping[str, Any], workdir: Path) -> None:
    """Raise unless a run meets what it began with, as far as both records say."""
    old = records.read_json(workdir / records.ENVIRONMENT) or {}
    before, now = (each.get("data", {}).get("sha256") for each in (old, found))
    if not _alike(before, now):
        raise WorkdirError(
            f"--workdir {workdir}: was begun on other data (sha256 "
            f"{before[:12]}..., now {now[:12]}...). "
            "Restore the data, or use another --workdir."
        )
    for part, keys in (("model", ("sha256", "start_sha256")), ("optimizer", ("first_steps",))):
        before, now = old.get(part, {}), found.get(part, {})
        changed = [key for key in keys if not _alike(before.get(key), now.get(key))]
        if changed:
            what = {"sha256": f"another version of {now.get('file', 'its file')}"}.get(
                changed[0], f"another {part} ({', '.join(changed)} differ)"
            )
            raise WorkdirError(
                f"--workdir {workdir}: was begun with {what}. Restore it, or use another workdir."
            )


def _alike(before: Any, now: Any) -> bool:
    """Return whether two records agree, numbers to what another machine may round; None does."""
    if before is None or now is None:
        return True
    if isinstance(before, list):
        return len(before) == len(now) and bool(np.allclose(before, now, rtol=1e-3))
    return before == now
