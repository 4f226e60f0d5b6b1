"""One line of the table: a figure of ours beside another's, from one run on equal results."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._clock import Times
from train.records import write_json

FOLDER = Path(__file__).resolve().parent / "records"


class PeerMissing(Exception):
    """A peer that a comparison needs is not installed."""


@dataclass(frozen=True)
class Comparison:
    """Ours against one peer.

    Attributes:
        work: what is done, the same words for every peer of one work.
        setting: the network and the sizes.
        peer: who does the same work, with the version.
        ours, theirs: the figures, in `unit`, medians where they are times.
        unit: "ms", "products", "error", "MiB", ...; less is better.
        ratio, low, high: the median and the quartiles over rounds of ours / theirs.
        most: the largest ratio that reaches the aim; None where none was set.
        floor: what bounds the figure from below, in words with its number.
        agreement: the largest relative difference of the results, asserted before timing.
        note: what a reader must know.
    """

    work: str
    setting: str
    peer: str
    ours: float | None
    theirs: float | None
    unit: str = "ms"
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    most: float | None = None
    floor: str = ""
    agreement: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """The table's word: reached, short, not measured, or nothing where no aim was set."""
        if self.ratio is None:
            return "not measured"
        if self.most is None:
            return ""
        return "reached" if self.ratio <= self.most else "short"


def timed(
    times: Times, ours: str, theirs: str, *, work: str, setting: str, peer: str, **others: Any
) -> Comparison:
    """Compare two of the calls that were timed in turns."""
    ratio, low, high = times.ratio(ours, theirs)
    return Comparison(
        work, setting, peer, 1000 * times.median(ours), 1000 * times.median(theirs),
        "ms", ratio, low, high, **others,
    )  # fmt: skip


def counted(
    ours: float, theirs: float, unit: str, *, work: str, setting: str, peer: str, **others: Any
) -> Comparison:
    """Compare two figures that are no times."""
    ratio = ours / theirs
    return Comparison(work, setting, peer, ours, theirs, unit, ratio, ratio, ratio, **others)


def peer(module: str, distribution: str | None = None) -> tuple[Any, str]:
    """Import a peer; return it and its name with the version.

    Raises:
        PeerMissing: it is not installed, or does not import.
    """
    try:
        found = importlib.import_module(module)
        return found, f"{module} {importlib.metadata.version(distribution or module)}"
    except Exception as error:
        raise PeerMissing(
            f"{module} does not import ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "the peers are the extra `peers`: make benchmarks"
        ) from error


def assert_equal(ours: Any, theirs: Any, tolerance: float) -> float:
    """Return norm(ours - theirs) / norm(theirs).

    Raises:
        AssertionError: it is over the tolerance, the shapes differ, or a value is not finite.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"ours has the shape {ours.shape}, theirs {theirs.shape}"
    assert np.isfinite(ours).all(), "a result of ours is not finite"
    assert np.isfinite(theirs).all(), "a result of theirs is not finite"
    difference = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-300))
    assert difference <= tolerance, f"results differ by {difference:.2g}, allowed {tolerance:.2g}"
    return difference


def save(name: str, rows: Sequence[Comparison], around: dict[str, Any], folder: Path) -> None:
    """Write a work's record in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", {**around, "rows": [asdict(row) for row in rows]})


def read(name: str, folder: Path) -> tuple[list[Comparison], dict[str, Any]] | None:
    """Return a work's rows and what was recorded around them; None where it was not measured."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return [Comparison(**row) for row in record.pop("rows")], record
