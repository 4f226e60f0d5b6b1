"""The records of a paper's jobs, read by arm and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train import records
from train.reproduce._job import ARRAYS, FAILED, Job
from train.reproduce._settings import Settings

if TYPE_CHECKING:
    from jaxtyping import Float


class Results:
    """What the finished jobs of a paper recorded."""

    def __init__(self, settings: Settings, jobs: Sequence[Job], folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.seeds: dict[str, list[int]] = {}
        for job in jobs:
            self.seeds.setdefault(job.arm, []).append(job.seed)
        self._summaries: dict[tuple[str, int], dict[str, Any]] = {}
        self._read: set[tuple[str, int]] = set()

    @property
    def arms(self) -> list[str]:
        """Return the arms in the order of the plan."""
        return list(self.seeds)

    def workdir(self, arm: str, seed: int) -> Path:
        """Return the folder of a job."""
        self._read.add((arm, seed))
        return self.folder / "runs" / arm / str(seed)

    def summary(self, arm: str, seed: int) -> dict[str, Any]:
        """Return a job's summary."""
        self._read.add((arm, seed))
        if (arm, seed) not in self._summaries:
            path = self.workdir(arm, seed) / records.SUMMARY
            self._summaries[arm, seed] = records.read_json(path) or {}
        return self._summaries[arm, seed]

    def diverged(self, arm: str) -> list[int]:
        """Return the seeds whose run stopped with a loss that is not finite."""
        found = {seed: self.summary(arm, seed) for seed in self.seeds[arm]}
        return [
            seed
            for seed, summary in found.items()
            if "metrics" not in summary and summary.get("status") != FAILED
        ]

    def failed(self) -> dict[str, str]:
        """Return why each run that failed did, by `arm/seed`."""
        found = {}
        for arm, seeds in self.seeds.items():
            for seed in seeds:
                summary = self.summary(arm, seed)
                if summary.get("status") == FAILED:
                    found[f"{arm}/{seed}"] = str(summary.get("reason"))
        return found

    def metric(self, arm: str, name: str) -> Float[np.ndarray, " seeds"]:
        """Return a metric of an arm, one value a seed; nan where a run diverged or failed.

        Raises:
            KeyError: the arm does not exist, or a run that finished lacks the metric.
        """
        if arm not in self.seeds:
            raise KeyError(f"no arm {arm!r}; there are {', '.join(self.seeds)}")
        values = []
        for seed in self.seeds[arm]:
            metrics = self.summary(arm, seed).get("metrics")
            if metrics is not None and name not in metrics:
                raise KeyError(f"{arm}/{seed} has no metric {name!r}; it has {', '.join(metrics)}")
            value = None if metrics is None else metrics[name]
            values.append(np.nan if value is None else value)
        return np.asarray(values, np.float64)

    def metrics(self, arm: str, names: Iterable[str]) -> Float[np.ndarray, "seeds names"]:
        """Return metrics of an arm side by side; nan and errors as of `metric`."""
        return np.stack([self.metric(arm, name) for name in names], axis=1)

    def arrays(self, arm: str, seed: int, file: str = ARRAYS) -> dict[str, np.ndarray]:
        """Return arrays that a job wrote."""
        return records.read_arrays(self.workdir(arm, seed) / file)

    def all_arrays(self, arm: str) -> list[dict[str, np.ndarray]]:
        """Return the arrays that each job of an arm wrote, in the order of `seeds`."""
        return [self.arrays(arm, seed) for seed in self.seeds[arm]]

    def stacked(self, arm: str, name: str) -> Float[np.ndarray, "seeds ..."]:
        """Return an array that every job of an arm wrote, of the same shape."""
        return np.stack([arrays[name] for arrays in self.all_arrays(arm)])

    def lines(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """Return the lines of a run's `metrics.jsonl`."""
        return records.MetricsLog(self.workdir(arm, seed) / records.METRICS).read()

    def seconds(self, arm: str, name: str = "seconds") -> Float[np.ndarray, " seeds"]:
        """Return what each job took, or with "core_seconds" what it took of the cores."""
        found = [self.summary(arm, seed).get("timing", {}) for seed in self.seeds[arm]]
        return np.asarray([each.get(name, np.nan) for each in found], np.float64)

    def runs_read(self, read: Callable[[], Any]) -> set[str]:
        """Return the runs, as `arm/seed`, whose records a function reads, also where it raises."""
        before, self._read = self._read, set()
        with suppress(Exception):
            read()
        touched, self._read = self._read, before | self._read
        return {f"{arm}/{seed}" for arm, seed in touched}


def unless_failed(read: Callable[[Results], Any], results: Results | None) -> tuple[Any, list[str]]:
    """Return what a function makes of the results, or None and the failed runs that it reads.

    What it would make of them means nothing.
    """
    failed = {} if results is None else results.failed()
    if results is None or not failed:
        return read(results), []  # pyright: ignore[reportArgumentType]
    touched = sorted(results.runs_read(lambda: read(results)) & failed.keys())
    return (None, touched) if touched else (read(results), [])
