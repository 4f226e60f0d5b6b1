"""A job of a paper: one training run or one measurement, in a folder of its own.

A job is done when its `summary.json` says so; `job.json` beside it holds what was asked, so that
a folder is never taken for the result of another plan. Both kinds write the same summary:
`status`, and `metrics` by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from train import records
from train.errors import DivergedError, UserError, WorkdirError

JOB = "job.json"
ARRAYS = "arrays.npz"
LOG = "log.txt"
FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"

Measure = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Asked:
    """What a measurement is asked for, beside its own options.

    Attributes:
        seed: of the job.
        broken: whether it is to leave its own penalty out.
        folder: the job's own.
        runs: where the folders of the other jobs are.
    """

    seed: int
    broken: bool = False
    folder: Path = Path()
    runs: Path = Path()


@dataclass(frozen=True)
class Job:
    """What one folder `runs/<arm>/<seed>` is to hold.

    Attributes:
        arm: the row of a table that the job belongs to; `/` makes subfolders.
        seed: experiment seed of a training run, handed to a measurement as `seed`.
        config: a TOML file, for a training run.
        overrides: changes to it, as on the command line.
        broken_overrides: further ones of a broken run, where the Jacobian term is part of the loss
            and no `[[penalty]]`.
        measure: for a measurement, a module-level function `(asked: Asked, **options)` that
            returns metrics by name; arrays among them go to `arrays.npz`.
        options: its further arguments, plain values.
        needs: jobs that must be done first, as `arm/seed`.
        cost: how long it takes against other jobs, any unit: for the estimate of what is left.
        pictures: whether a training run draws its figures; their arrays are there all the same.
    """

    arm: str
    seed: int
    config: Path | None = None
    overrides: tuple[str, ...] = ()
    broken_overrides: tuple[str, ...] = ()
    measure: Measure | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    pictures: bool = False

    @property
    def name(self) -> str:
        """Return `arm/seed`, the folder's place under `runs/`."""
        return f"{self.arm}/{self.seed}"

    def asked(self, broken: bool) -> list[str]:
        """Return the overrides that a run gets."""
        return [*self.overrides, *(self.broken_overrides if broken else ())]

    def within(self, most_steps: int) -> tuple[Job, int | None]:
        """Return the job with at most so many training steps, and how many it had if it was cut.

        Schedules are in shares of the steps, so they are cut in proportion.

        Raises:
            UserError: a first phase alone (`task.pretrain_steps`) takes as many.
        """
        from train.config import load

        if self.config is None:
            return self, None
        config = load(self.config, self.overrides)
        whole = config.training.steps
        if whole <= most_steps:
            return self, None
        first = config.task.options.get("pretrain_steps", 0)
        if first >= most_steps:
            raise UserError(
                f"--most-steps: got {most_steps}, but {self.arm} begins with task.pretrain_steps = "
                f"{first}; expected more than that."
            )
        overrides = (*self.overrides, f"training.steps={most_steps}")
        return replace(self, overrides=overrides), whole

    def describe(self, broken: bool) -> dict[str, Any]:
        """Return what `job.json` records."""
        return {
            "arm": self.arm,
            "seed": self.seed,
            "config": self.config.name if self.config else None,
            "overrides": self.asked(broken),
            "measure": self.measure.__name__ if self.measure else None,
            "options": dict(self.options),
            "broken": broken,
        }


def training(
    arm: str, seeds: Iterable[int], config: Path, overrides: Sequence[str] = (), **fields: Any
) -> list[Job]:
    """Return the jobs of training `config`, one a seed, with further fields of `Job`."""
    return [Job(arm, seed, config=config, overrides=tuple(overrides), **fields) for seed in seeds]


def measurement(
    arm: str,
    seeds: Iterable[int],
    measure: Measure,
    *,
    needs: Sequence[str] = (),
    cost: float = 1.0,
    **options: Any,
) -> list[Job]:
    """Return the jobs of calling `measure`, one a seed; each needs these arms' of its seed."""
    return [
        Job(
            arm,
            seed,
            measure=measure,
            options=options,
            needs=tuple(f"{each}/{seed}" for each in needs),
            cost=cost,
        )
        for seed in seeds
    ]


def is_done(job: Job, folder: Path, broken: bool) -> bool:
    """Return whether the folder holds the job's result; a run that diverged is one.

    One that failed is not: the same command tries it again.

    Raises:
        WorkdirError: the folder was begun for another plan.
    """
    asked = records.read_json(folder / JOB)
    wanted = json.loads(json.dumps(job.describe(broken)))
    if asked is not None and asked != wanted:
        changed = [key for key in wanted if asked.get(key) != wanted[key]]
        raise WorkdirError(
            f"--workdir: {folder} was begun with another plan ({', '.join(changed)} differ). "
            "Use another --workdir, or give the command that began this one."
        )
    summary = records.read_json(folder / records.SUMMARY)
    return summary is not None and summary.get("status") in (FINISHED, DIVERGED)


def perform(job: Job, folder: Path, broken: bool) -> float:
    """Do the job, or go on where an earlier attempt stopped; return the seconds it took."""
    started, of_cores = time.perf_counter(), time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    records.write_json(folder / JOB, job.describe(broken))
    if job.measure is None:
        _train(job, folder, broken)
    else:
        place = folder.parents[job.name.count("/")]
        found = job.measure(Asked(job.seed, broken, folder, place), **job.options)
        _write(folder, found, time.perf_counter() - started)
    _note_cores(folder, time.process_time() - of_cores)
    return time.perf_counter() - started


def _note_cores(folder: Path, seconds: float) -> None:
    """Record what a job took of the cores: unlike its time, the same on a busy machine."""
    summary = records.read_json(folder / records.SUMMARY) or {}
    summary["timing"] = {**summary.get("timing", {}), "core_seconds": seconds}
    records.write_json(folder / records.SUMMARY, summary)


def record_failure(folder: Path, reason: str) -> None:
    """Write that the job of a folder failed: a result like any other."""
    folder.mkdir(parents=True, exist_ok=True)
    records.write_json(folder / records.SUMMARY, {"status": FAILED, "reason": reason})


def _train(job: Job, folder: Path, broken: bool) -> None:
    import dataclasses

    from train import config as configs
    from train.run import run

    assert job.config is not None
    config = configs.load(job.config, [*job.asked(broken), f"experiment.seed={job.seed}"])
    if broken:
        penalties = tuple(dataclasses.replace(each, weight=0.0) for each in config.penalty)
        config = dataclasses.replace(config, penalty=penalties)
    try:
        run(config, folder, pictures=job.pictures)
    except DivergedError as error:
        # A result like any other: the claims that need its numbers do not hold.
        print(error)


def _write(folder: Path, found: Mapping[str, Any], seconds: float) -> None:
    import numpy as np

    metrics = {name: value for name, value in found.items() if np.ndim(value) == 0}
    arrays = {name: np.asarray(value) for name, value in found.items() if name not in metrics}
    if arrays:
        records.write_arrays(folder / ARRAYS, arrays)
    values = {name: float(value) for name, value in metrics.items()}
    records.write_json(
        folder / records.SUMMARY,
        {"status": FINISHED, "metrics": values, "timing": {"seconds": seconds}},
    )
