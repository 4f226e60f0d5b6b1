"""The records of a paper's jobs, read by arm and seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train import records
from train.reproduce._job import ARRAYS, Job
from train.reproduce._paper import Settings

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

    @property
    def arms(self) -> list[str]:
        """Return the arms in the order of the plan."""
        return list(self.seeds)

    def workdir(self, arm: str, seed: int) -> Path:
        """Return the folder of a job."""
        return self.folder / "runs" / arm / str(seed)

    def summary(self, arm: str, seed: int) -> dict[str, Any]:
        """Return a job's summary."""
        if (arm, seed) not in self._summaries:
            path = self.workdir(arm, seed) / records.SUMMARY
            self._summaries[arm, seed] = records.read_json(path) or {}
        return self._summaries[arm, seed]

    def diverged(self, arm: str) -> list[int]:
        """Return the seeds whose run stopped with a loss that is not finite."""
        return [seed for seed in self.seeds[arm] if "metrics" not in self.summary(arm, seed)]

    def metric(self, arm: str, name: str) -> Float[np.ndarray, " seeds"]:
        """Return a metric of an arm, one value a seed; nan where a run diverged.

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

    def arrays(self, arm: str, seed: int, file: str = ARRAYS) -> dict[str, np.ndarray]:
        """Return arrays that a job wrote."""
        return records.read_arrays(self.workdir(arm, seed) / file)

    def lines(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """Return the lines of a run's `metrics.jsonl`."""
        return records.MetricsLog(self.workdir(arm, seed) / records.METRICS).read()

    def seconds(self, arm: str) -> Float[np.ndarray, " seeds"]:
        """Return what each job took."""
        found = [self.summary(arm, seed).get("timing", {}) for seed in self.seeds[arm]]
        return np.asarray([each.get("seconds", np.nan) for each in found])
