"""What differs between runs, as rows of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train.progress import shown_metric
from train.tables import flat
from train.view._read import Run

# Metrics of which more, or less, is better whatever the run is for; the others are not judged.
_MORE, _LESS = ("accuracy",), ("loss", "nll", "mse", "bits_per_dimension", "score_error")


class Row(NamedTuple):
    """A line of a table.

    Attributes:
        name: of the metric or key.
        cells: one a run.
        best: the columns that are best; empty where nothing is.
    """

    name: str
    cells: list[str]
    best: frozenset[int] = frozenset()


def metric_rows(runs: Sequence[Run]) -> list[Row]:
    """Return status, steps, seed, final metrics and speed, a column a run.

    A run without a summary shows the last values of its log, marked by its status.
    """
    rows = [
        Row("status", [str(run.summary.get("status", "running")) for run in runs]),
        Row("steps", [str(run.summary.get("steps", _last(run).get("step", "-"))) for run in runs]),
        Row("seed", [str(flat(run.config).get("experiment.seed", "-")) for run in runs]),
    ]
    metrics = [dict(run.summary.get("metrics") or _last(run)) for run in runs]
    names = dict.fromkeys(name for each in metrics for name in each if name != "step")
    rows += [_metric_row(name, [each.get(name) for each in metrics]) for name in names]
    speeds = [run.summary.get("timing", {}).get("ms_per_step") for run in runs]
    if any(speed is not None for speed in speeds):
        cells = ["-" if speed is None else f"{speed:.2f}" for speed in speeds]
        rows.append(Row("ms a step", cells))
    return rows


def changed_keys(runs: Sequence[Run]) -> list[Row]:
    """Return the config keys in which the runs differ, their names and workdirs aside."""
    tables = [flat(run.config) for run in runs]
    names = sorted(dict.fromkeys(name for each in tables for name in each))
    rows = []
    for name in names:
        values = [each.get(name, "-") for each in tables]
        if name != "experiment.name" and any(value != values[0] for value in values):
            rows.append(Row(name, [str(value) for value in values]))
    return rows


def _metric_row(name: str, values: Sequence[float | None]) -> Row:
    cells = [shown_metric(name, value) for value in values]
    kind = name.rpartition("/")[2]
    sign = 1 if kind.startswith(_MORE) else -1 if kind.startswith(_LESS) else 0
    numbers = {
        column: sign * value
        for column, value in enumerate(values)
        if value is not None and math.isfinite(value)
    }
    if not sign or len(set(numbers.values())) < 2:
        return Row(name, cells)
    most = max(numbers.values())
    return Row(name, cells, frozenset(c for c, value in numbers.items() if value == most))


def _last(run: Run) -> Mapping[str, Any]:
    return run.lines[-1] if run.lines else {}
