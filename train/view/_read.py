"""Runs as the view sees them: what their folders record."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from train import records
from train.errors import WorkdirError


@dataclass(frozen=True)
class Run:
    """One workdir.

    Attributes:
        title: what tells it from the others.
        workdir: its folder.
        config: the tables of its resolved config; empty where there is none.
        summary: its summary; empty while it runs.
        lines: of `metrics.jsonl`.
    """

    title: str
    workdir: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]

    def arrays(self, record: Path) -> dict[str, np.ndarray] | None:
        """Return a record of arrays, None where the run has none or it does not load."""
        try:
            return records.read_arrays(self.workdir / record)
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):
            return None


def read_runs(workdirs: Sequence[Path]) -> list[Run]:
    """Return the runs of some folders, each with a title of its own.

    Raises:
        WorkdirError: a folder holds no run.
    """
    found = []
    for workdir in workdirs:
        summary = records.read_json(workdir / records.SUMMARY) or {}
        lines = records.MetricsLog(workdir / records.METRICS).read()
        if not summary and not lines:
            what = "is no folder" if not workdir.is_dir() else "holds no run"
            raise WorkdirError(
                f"WORKDIR {workdir}: {what}; expected one that python -m train wrote, with "
                f"{records.SUMMARY} or {records.METRICS}."
            )
        found.append((workdir, _config(workdir), summary, lines))
    titles = _titles([workdir for workdir, *_ in found])
    return [Run(title, *each) for title, each in zip(titles, found, strict=True)]


def _config(workdir: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((workdir / records.CONFIG).read_text())
    except (OSError, ValueError):
        return {}


def _titles(workdirs: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as many parents as it takes to tell them apart."""
    paths = [Path(os.path.abspath(workdir)) for workdir in workdirs]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        titles = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(titles)) == len(titles):
            return titles
    # The same folder twice.
    return [f"{title} ({number})" for number, title in enumerate(titles, start=1)]
