"""The UCI tables that several papers take, as files of the reader's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.reproduce._job import Job, training
from train.reproduce._settings import Settings

# Columns after the preparation of DKEF (correlated ones dropped).
FEATURES = {"red-wine": 11, "white-wine": 11, "parkinsons": 15}
FILES = {
    "red-wine": "winequality-red.csv of the UCI repository, or its folder",
    "white-wine": "winequality-white.csv of the UCI repository, or its folder",
    "parkinsons": "parkinsons_updrs.data of the UCI repository, or its folder",
}


def runs(
    settings: Settings,
    config: Path,
    arms: Mapping[str, Sequence[str]],
    quick: Sequence[str] = (),
    **fields: Any,
) -> list[Job]:
    """Return the runs on the tables that were given.

    Args:
        arms: overrides by arm, in whose name `{table}` stands for the table's.
    """
    found = []
    for table, path in settings.data.items():
        source = (f"data.name={table}", f"data.path={path}", *(quick if settings.quick else ()))
        for arm, overrides in arms.items():
            name, changes = arm.format(table=table), (*source, *overrides)
            found += training(name, settings.each_seed, config, changes, **fields)
    return found


def left_out(settings: Settings) -> list[str]:
    """Return the sentence on the tables that were not given, if any."""
    missing = [name for name in FILES if name not in settings.data]
    return (
        [f"The tables {', '.join(missing)}: give their files with --data NAME=PATH."]
        if missing
        else []
    )
