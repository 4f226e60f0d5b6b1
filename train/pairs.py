"""Pairs of runs that differ in the penalty alone: the same seed, data, order and steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from train.errors import ConfigError
from train.progress import shown_metric
from train.run import run

if TYPE_CHECKING:
    from train.sections import Config


class Pair(NamedTuple):
    """The summaries of a run without its penalties and of the run itself."""

    plain: dict[str, Any]
    penalised: dict[str, Any]

    def shared_metrics(self) -> set[str]:
        """Return the metrics that both measured as finite numbers."""
        found = [
            {name for name, value in summary["metrics"].items() if _is_finite(value)}
            for summary in self
        ]
        return found[0] & found[1]

    def difference(self, metric: str) -> float:
        """Return penalised minus plain."""
        return self.penalised["metrics"][metric] - self.plain["metrics"][metric]


def _is_finite(value: Any) -> bool:
    # A record has null where a number was not finite.
    return value is not None and math.isfinite(value)


def without_penalty(config: Config) -> Config:
    """Return the config with every penalty weight 0, named `<name>-plain`.

    Raises:
        ConfigError: there is no penalty to leave out.
    """
    if not any(penalty.weight for penalty in config.penalty):
        raise ConfigError("penalty: got none with a weight, expected at least one to compare.")
    experiment = dataclasses.replace(config.experiment, name=f"{config.experiment.name}-plain")
    penalties = tuple(dataclasses.replace(penalty, weight=0.0) for penalty in config.penalty)
    return dataclasses.replace(config, experiment=experiment, penalty=penalties)


def run_pair(config: Config, plain_workdir: Path, penalised_workdir: Path) -> Pair:
    """Run both, or show them where they are finished."""
    return Pair(run(without_penalty(config), plain_workdir), run(config, penalised_workdir))


def rows(pair: Pair) -> list[Sequence[str]]:
    """Return the lines of the side-by-side table."""

    def cells(name: str, values: Sequence[float | None]) -> list[str]:
        return [name, *(shown_metric(name, value) for value in values)]

    def timing(summary: Mapping[str, Any]) -> float | None:
        return summary.get("timing", {}).get("ms_per_step")

    metrics = [summary["metrics"] for summary in pair]
    lines = [
        cells(name, [metric.get(name) for metric in metrics])
        for name in metrics[1]
        if name in metrics[0]
    ]
    return [*lines, cells("ms a step", [timing(summary) for summary in pair])]
