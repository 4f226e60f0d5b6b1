"""What a paper is here: jobs, claims, tables and figures, all data or functions of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from train.tables import CONFIGS

if TYPE_CHECKING:
    from train.reproduce._claims import Claim
    from train.reproduce._job import Job
    from train.reproduce._results import Results
    from train.reproduce._settings import Settings


@dataclass(frozen=True)
class Table:
    """A table of the report: cells are text; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper to be seen again.

    Attributes:
        name: the command's NAME.
        title: what is shown of it, in a line.
        reference: authors, year, where to find it.
        scales: by scale, how the run differs from the paper's protocol.
        data: names that `--data` takes for it, each with what it is.
        jobs: what to run.
        claims: what to judge.
        tables, figures: made from the results alone; a figure function writes PNG files into
            the folder and returns `(file name, caption)` pairs.
        left_out: what of the paper is not here, and why.
    """

    name: str
    title: str
    reference: str
    scales: Mapping[str, str]
    jobs: Callable[[Settings], Sequence[Job]]
    claims: Callable[[Settings], Sequence[Claim]]
    tables: Callable[[Results], Sequence[Table]]
    figures: Callable[[Results, Path], Sequence[tuple[str, str]]]
    data: Mapping[str, str] = field(default_factory=dict)
    left_out: Callable[[Settings], Sequence[str]] = lambda settings: ()

    @property
    def configs(self) -> Path:
        """Return the folder of the paper's configs."""
        return CONFIGS / "papers" / self.name
