"""The same run on one, two and four devices and in two processes: the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.robustness._records import ROOT

_LONGEST = 900.0
_CONFIG = "configs/smoke/nnx.toml"
_OVERRIDES = (
    "training.steps=20", "training.log_every=5", "training.eval_every=10",
    "training.checkpoint_every=10", "evaluation.decision_cells=false",
)  # fmt: skip
# One in 360 test digits may change sides with the last bit.
_ACCURACY, _RELATIVE = 2.5 / 360, 1e-4


def _start(
    workdir: Path, *overrides: str, devices: int = 4, **environment: str
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train", str(ROOT / _CONFIG), *_OVERRIDES, *overrides]
    flags = f"--xla_force_host_platform_device_count={devices}"
    with workdir.with_suffix(".out").open("wb") as file:
        return subprocess.Popen(
            [*command, "--workdir", str(workdir)],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "XLA_FLAGS": flags, **environment},
        )


def _finish(workdir: Path, *processes: subprocess.Popen[bytes]) -> dict[str, Any]:
    codes = [process.wait(_LONGEST) for process in processes]
    if any(codes):
        raise RuntimeError(f"exit codes {codes}: {workdir.with_suffix('.out').read_text()[-500:]}")
    return json.loads((workdir / "summary.json").read_text())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _hosts(workdir: Path) -> dict[str, Any]:
    """Run in two processes of two devices each, that meet on the loopback."""
    address = f"127.0.0.1:{_free_port()}"
    processes = [
        _start(
            workdir if number == 0 else workdir.with_name("second"),
            "parallel.hosts=2", "parallel.data=4",
            devices=2, JACREG_COORDINATOR=address, JACREG_PROCESS=str(number),
        )
        for number in range(2)
    ]  # fmt: skip
    found = _finish(workdir, *processes)
    if workdir.with_name("second").exists():
        raise RuntimeError("the second process wrote a workdir")
    return found


def _moved(workdir: Path) -> dict[str, Any]:
    """Kill a run on four devices after its checkpoint, and go on with one."""
    process = _start(workdir, "parallel.data=4", "training.steps=20")
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < _LONGEST:
        if (workdir / "checkpoints" / "10").exists():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.002)
    process.wait()
    found = _finish(workdir, _start(workdir))
    said = workdir.with_suffix(".out").read_text()
    if "goes on from the checkpoint of step" not in said:
        raise RuntimeError("the run on one device did not go on")
    return found


def run_devices(folder: Path) -> dict[str, Any]:
    """Compare; return the record."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ways = {
        "one device": lambda at: _finish(at, _start(at)),
        "two devices": lambda at: _finish(at, _start(at, "parallel.data=2")),
        "four devices": lambda at: _finish(at, _start(at, "parallel.data=4")),
        "two processes of two devices": _hosts,
        "four devices, killed, then one": _moved,
    }
    found = {name: way(folder / f"run-{n}") for n, (name, way) in enumerate(ways.items())}
    expected = found["one device"]["metrics"]
    compared, problems = [], []
    for name, summary in found.items():
        relative = max(
            abs(value - expected[key]) / max(abs(expected[key]), 1e-12)
            for key, value in summary["metrics"].items()
            if "accuracy" not in key
        )
        accuracy = max(
            abs(value - expected[key])
            for key, value in summary["metrics"].items()
            if "accuracy" in key
        )
        compared.append(
            {
                "way": name,
                "largest_relative_difference": relative,
                "largest_difference_of_accuracies": accuracy,
                "same_bits": summary["params_sha256"] == found["one device"]["params_sha256"],
            }
        )
        if relative > _RELATIVE or accuracy > _ACCURACY:
            problems.append({"way": name, "relative": str(relative), "accuracy": str(accuracy)})
    return {"config": _CONFIG, "ways": compared, "problems": problems}
