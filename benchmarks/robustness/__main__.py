"""`python -m benchmarks.robustness SUBJECT`: try to break runs, and write what happened.

  kills     kill -9 and SIGTERM at random moments, against the undisturbed run
  configs   wrong configs: one message and an exit code, never a traceback
  calls     wrong arguments of every public function: ValueError, TypeError or a result
  formats   data files that are torn, lie about their size or reach out of their folder
  disks     a full disk, a read-only one, torn and missing checkpoints, two runs on one workdir
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


SUBJECTS: Mapping[str, Callable[..., tuple[dict[str, Any], bool]]] = {
    "kills": _kills,
    "configs": _configs,
    "calls": _calls,
    "formats": _formats,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", choices=tuple(SUBJECTS))
    parser.add_argument("--count", type=int, help="how many, the subject's own where left out")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the soak (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path, help="where runs live, a temporary folder")
    parser.add_argument("--records", type=Path, default=_records.FOLDER)
    chosen = parser.parse_args(arguments)
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
