"""One long run with checkpoints and evaluations: does its memory grow?"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.robustness._kills import Run, Subject

_EVERY = 2.0  # seconds between two looks
_WARM = 0.25  # share of the time that counts as warming up
# About 40 seconds of these small steps. A checkpoint leaves some 20 KiB behind in the checkpoint
# library's native code: one every few seconds, as no real run has, would be all that is measured.
_CHECKPOINT_EVERY = 20_000
_SUBJECT = Subject(
    "classification, dropout, Adam",
    "configs/smoke/equinox.toml",
    ("training.steps=1000000000", "training.log_every=100", "training.eval_every=2500",
     f"training.checkpoint_every={_CHECKPOINT_EVERY}", "evaluation.decision_cells=false"),
)  # fmt: skip


def resident_bytes(process: int) -> int:
    """Return what a process holds in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


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
    looks: list[tuple[float, int]] = []
    files: list[int] = []
    while process.poll() is None and time.monotonic() - begun < 60 * minutes:
        time.sleep(_EVERY)
        looks.append((time.monotonic() - begun, resident_bytes(process.pid)))
        files.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    times, sizes = np.asarray(looks, float).T
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
        "open_files": [min(files), max(files)],
        "growth_bytes_an_hour": found["slope"],
        "growth_low": found["low"],
        "growth_high": found["high"],
        "growth_share_an_hour": found["slope"] / float(sizes[late].mean()),
        "python": sys.version.split()[0],
        "series": [[round(time_), int(size)] for time_, size in looks[:: max(1, len(looks) // 60)]],
    }
