"""`python -m benchmarks.robustness SUBJECT`: try to break runs, and write what happened.

  kills     kill -9 and SIGTERM at random moments, against the undisturbed run
  configs   wrong configs: one message and an exit code, never a traceback
  calls     wrong arguments of every public function: ValueError, TypeError or a result
  formats   data files that are torn, lie about their size or reach out of their folder
  cases     the tests of full and read-only disks, torn checkpoints, signals anywhere, NaN
  devices   one, two and four devices, and two processes: equal numbers
  memory    peak memory and time of each quantity against batch, size, outputs and probes
  soak      run after run in one process: does memory grow?
  table     write what was found into docs/robustness.md

Each but `table` writes a record beside this file. Exit code 1 where something broke.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.robustness import _records


def _kills(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._kills import run_kills

    found = run_kills(folder, chosen.count or 30, chosen.seed)
    return found, found["failed_runs"] == 0


def _configs(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._configs import fuzz_configs, limit_memory

    limit_memory()
    found = fuzz_configs(chosen.count or 500, folder / "configs", chosen.seed)
    return found, not found["problems"]


def _calls(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._calls import fuzz_calls

    found = fuzz_calls(chosen.count or 2000, chosen.seed)
    return found, not found["problems"]


def _formats(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._configs import limit_memory
    from benchmarks.robustness._formats import fuzz_formats

    limit_memory()
    found = fuzz_formats(chosen.count or 200, folder / "formats", chosen.seed)
    return found, not found["problems"]


def _cases(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._cases import run_cases

    found = run_cases(folder)
    return found, not found["problems"]


def _devices(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._devices import run_devices

    found = run_devices(folder / "devices")
    return found, not found["problems"]


def _memory(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._growth import run_growth

    return run_growth(), True


def _soak(chosen: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    from benchmarks.robustness._soak import run_soak

    found = run_soak(chosen.minutes, folder)
    # Flat: no growth that could be told from none, or less than a percent an hour.
    return found, found["growth_low"] <= 0 or found["growth_share_an_hour"] < 0.01


SUBJECTS: Mapping[str, Callable[..., tuple[dict[str, Any], bool]]] = {
    "kills": _kills,
    "configs": _configs,
    "calls": _calls,
    "formats": _formats,
    "cases": _cases,
    "devices": _devices,
    "memory": _memory,
    "soak": _soak,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", choices=(*SUBJECTS, "table"))
    parser.add_argument("--count", type=int, help="how many, the subject's own where left out")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the soak (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path, help="where runs live, a temporary folder")
    parser.add_argument("--records", type=Path, default=_records.FOLDER)
    chosen = parser.parse_args(arguments)
    if chosen.subject == "table":
        from benchmarks.robustness._table import write_table

        print(f"written: {write_table(chosen.records)}")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        found, held = SUBJECTS[chosen.subject](chosen, chosen.workdir or Path(scratch))
    path = _records.save(chosen.subject, found, chosen.records)
    for problem in found.get("problems", ()):
        print("  " + "; ".join(f"{key}: {value}" for key, value in problem.items()))
    for key, value in found.items():
        if not isinstance(value, list):
            print(f"{key}: {value}")
    print(f"{'held' if held else 'BROKE'}; record: {path}")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
