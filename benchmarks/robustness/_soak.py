"""One long run with checkpoints and evaluations: does its memory grow?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.robustness._kills import Run, Subject

_EVERY = 2.0  # seconds between two looks
_WARM = 0.25  # share of the time that counts as warming up
# About 40 seconds of these small steps.
_CHECKPOINT_EVERY = 20_000
_SUBJECT = Subject(
    "classification, dropout, Adam",
    "configs/smoke/equinox.toml",
    ("training.steps=1000000000", "training.log_every=100", "training.eval_every=2500",
     f"training.checkpoint_every={_CHECKPOINT_EVERY}", "evaluation.decision_cells=false"),
)  # fmt: skip


class Resident(NamedTuple):
    """What a process holds in memory, in bytes."""

    anonymous: int  # its own: what a leak makes grow
    mapped: int  # pages of files, which the system takes away and gives back as it likes

    @classmethod
    def of(cls, process: int) -> Resident:
        """Return that of a process that runs."""
        text = Path(f"/proc/{process}/status").read_text()
        kibi = dict(re.findall(r"^(Rss\w+):\s+(\d+) kB", text, re.MULTILINE))
        return cls(1024 * int(kibi["RssAnon"]), 1024 * int(kibi["RssFile"]))


def growth(times: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    """Return the slope of sizes over times with its 95 % interval.

    Looks at means over twenty stretches of time, since neighbouring looks are no independent ones.

    Returns:
        `slope`, `low`, `high` in bytes an hour, from times in seconds.
    """
    from scipy import stats

    count = min(20, len(times))
    parts = [part for part in np.array_split(np.arange(len(times)), count) if len(part)]
    hours = np.asarray([times[part].mean() for part in parts]) / 3600
    means = np.asarray([sizes[part].mean() for part in parts])
    fit = stats.linregress(hours, means)
    reach = float(stats.t.ppf(0.975, max(len(parts) - 2, 1)) * fit.stderr)
    slope = float(fit.slope)
    return {"slope": slope, "low": slope - reach, "high": slope + reach}


def run_soak(minutes: float, folder: Path) -> dict[str, Any]:
    """Train for so long and look at the memory; return the record."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(_SUBJECT, folder / "soak")
    os.environ.setdefault("JACREG_CACHE", str(folder / "cache"))
    process = run.start()
    begun = time.monotonic()
    looks: list[tuple[float, int, int]] = []
    files: list[int] = []
    while process.poll() is None and time.monotonic() - begun < 60 * minutes:
        time.sleep(_EVERY)
        held = Resident.of(process.pid)
        looks.append((time.monotonic() - begun, held.anonymous, held.mapped))
        files.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    times, sizes, mapped = np.asarray(looks, float).T
    late = times > _WARM * times[-1]
    found = growth(times[late], sizes[late])
    lines = run.metrics().count(b"\n")
    return {
        "minutes": round(float(times[-1]) / 60, 1),
        "exit_code": code,
        "steps": max(run.checkpoints(), default=0),
        "checkpoint_every": _CHECKPOINT_EVERY,
        "lines_of_metrics": lines,
        "looks": len(looks),
        "first_bytes": int(sizes[late][0]),
        "last_bytes": int(sizes[-1]),
        "first_mapped_bytes": int(mapped[late][0]),
        "last_mapped_bytes": int(mapped[-1]),
        "open_files": [min(files), max(files)],
        "growth_bytes_an_hour": found["slope"],
        "growth_low": found["low"],
        "growth_high": found["high"],
        "growth_share_an_hour": found["slope"] / float(sizes[late].mean()),
        "python": sys.version.split()[0],
        "series": [
            [round(moment), *sizes] for moment, *sizes in looks[:: max(1, len(looks) // 60)]
        ],
    }
