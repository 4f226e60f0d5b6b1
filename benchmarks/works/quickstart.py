"""Start to finish of `make quickstart`, with an empty compilation cache and with a warm one.

Each is one process with the imports, both runs, the evaluations and the pictures; the second one
finds the programs that the first one left in the cache folder, in another working folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._comparison import Comparison, counted

_ROOT = Path(__file__).resolve().parents[2]


def compare() -> list[Comparison]:
    """Return the rows.

    Raises:
        AssertionError: the runs with and without the cache do not end at equal weights.
        RuntimeError: a run fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cold, warm = (_run(Path(scratch), name) for name in ("cold", "warm"))
    assert cold["weights"] == warm["weights"], "a warm cache changes the result"
    setting = f"LeNet' on mnist-5k, two runs, {cold['programs']} programs"
    return [
        counted(
            cold["compile"], cold["seconds"], "s", work="compilation in the quickstart",
            setting=setting, peer="start to finish, cold cache", most=0.33,
            note="imports included",
        ),
        counted(
            warm["compile"], warm["seconds"], "s", work="the same with a warm cache",
            setting=f"{warm['stored']} programs from it", peer="start to finish, warm cache",
            most=0.33,
        ),
        counted(
            warm["seconds"], cold["seconds"], "s", work="start to finish of the quickstart",
            setting=setting, peer="the first time, cold cache", note="ours: the cache is warm",
            agreement=0.0,
        ),
    ]  # fmt: skip


def _run(scratch: Path, name: str) -> dict[str, Any]:
    """Run it in a fresh working folder, with the cache that both share."""
    report, workdir = scratch / f"{name}.json", scratch / name
    command = [sys.executable, "-m", "benchmarks.works._compile_clock", str(report)]
    environment = {**os.environ, "JACREG_CACHE": str(scratch / "cache")}
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--workdir", str(workdir)],
        cwd=_ROOT, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"the quickstart failed: {done.stderr[-1000:]}")
    summaries = sorted(workdir.glob("*/summary.json"))
    weights = [json.loads(path.read_text())["params_sha256"] for path in summaries]
    assert len(weights) == 2, f"expected two runs, found {len(weights)}"
    return {**json.loads(report.read_text()), "seconds": seconds, "weights": weights}
