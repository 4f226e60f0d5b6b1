"""`python -m benchmarks [WORK ...]`: jacreg beside what one would take instead.

Each work is measured in an interpreter of its own, on equal results and in one run with its peers,
and leaves `benchmarks/records/WORK.json`. Then the table of all records is printed and, with
`--page FILE`, written between that file's marks (`docs/benchmarks.md` has those of the whole table,
`README.md` those of the headlines); the plots go to `benchmarks/records/plots/`.

  --list          the works
  --table         measure nothing: print and write from the records
  --page FILE     renew the table in FILE (again for a second file)
  --records DIR   another folder for the records and plots

Without names all works are measured but those whose peer is no package (see benchmarks/README.md).

Exit code 0 when every work ran, whether or not an aim was reached (the table says which fall
short); 1 when a work failed, for one because its results did not agree; 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import _comparison, _table
from benchmarks.works import NAMED_ONLY, WORKS

_ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Measure works and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("works", nargs="*", metavar="WORK")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--page", type=Path, action="append", default=[])
    parser.add_argument("--records", type=Path, default=_comparison.FOLDER)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    for name in chosen.works:
        if name not in WORKS:
            parser.error(f"unknown work {name!r}, expected one of {', '.join(WORKS)}")
    for page in chosen.page:
        if not page.is_file():
            parser.error(f"--page {page}: there is no such file")
    if chosen.list:
        for name in WORKS:
            print(f"{name:24} {_table.title(name)}")
        return 0
    if chosen.inside:
        _measure(chosen.works[0], chosen.records)
        return 0
    every = [name for name in WORKS if name not in NAMED_ONLY]
    failed = [] if chosen.table else _run(chosen.works or every, chosen.records)
    _table.show(chosen.records)
    plots = _table.draw(chosen.records)
    if plots:
        print(f"Plots in {plots[0].parent}: {', '.join(path.name for path in plots)}")
    for page in chosen.page:
        _table.renew(page, chosen.records)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(works: list[str], folder: Path) -> list[str]:
    failed = []
    for number, name in enumerate(works, 1):
        print(f"[{number}/{len(works)}] {name}: {_table.title(name)}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks", name, "--inside", "--records", str(folder)]
        done = subprocess.run(command, cwd=_ROOT, check=False)
        print(f"        {time.perf_counter() - started:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    return failed


def _measure(name: str, folder: Path) -> None:
    """Measure one work in this interpreter and write its record."""
    started = time.perf_counter()
    load = os.getloadavg()[0]
    module = importlib.import_module(f"benchmarks.works.{name}")
    rows = module.compare()
    series = module.growth() if hasattr(module, "growth") else []
    _comparison.save(name, rows, {"series": series, **_around(started, load)}, folder)


def _around(started: float, load: float) -> dict[str, Any]:
    import jax

    from train.environment import commit

    return {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"{jax.devices()[0].device_kind}",
        "load_before": round(load, 2),
        "jax": jax.__version__,
        "commit": commit(),
        "seconds": round(time.perf_counter() - started, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
