"""Plant one error at a time in the library: do the tests see it?

`python -m benchmarks.mutants [--jobs 2] [--only TEXT]` copies the package and its tests to a
temporary folder for each mutant, changes one place, and runs the tests that answer for that file
until the first failure. It prints the share that was caught and every survivor, and exits 1 below
90 %. A mutant whose text is no longer in the source is reported as stale and counts as a survivor.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]


def run_tests(tests: str, mutant: Mutant | None, cache: str) -> bool:
    """Whether the tests pass on a copy of the package with the mutant in it, or with none."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("jacreg", "models", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            target = copy / "jacreg" / mutant.path
            target.write_text(target.read_text().replace(mutant.old, mutant.new, 1))
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Most programs are the same for every mutant; conftest compiles them in little time.
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow",
                   "-p", "no:cacheprovider", *shlex.split(tests)]  # fmt: skip
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    # 1: a test failed; 2: the mutant broke an import; 5: no test selected.
    if done.returncode not in (0, 1, 2, 5):
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout.decode()}")
    return done.returncode in (0, 5)


def run(mutant: Mutant, cache: str) -> str:
    """Return "caught", "survived" or "stale" for one mutant."""
    if mutant.old not in (ROOT / "jacreg" / mutant.path).read_text():
        return "stale"
    stages = [f"{mutant.tests} -k '{mutant.hint}'"] if mutant.hint else []
    passed = all(run_tests(tests, mutant, cache) for tests in [*stages, mutant.tests])
    return "survived" if passed else "caught"


def main() -> int:
    """Run the mutants and print what happened to each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="run the mutants whose file holds this text")
    parser.add_argument("--first", type=int, default=0, help="number of the first one to run")
    parser.add_argument("--last", type=int, default=len(MUTANTS), help="number after the last one")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests unchanged")
    chosen = parser.parse_args()
    mutants = [m for m in MUTANTS[chosen.first : chosen.last] if chosen.only in m.path]
    results = []
    with ThreadPoolExecutor(chosen.jobs) as pool, tempfile.TemporaryDirectory() as cache:
        if not chosen.no_baseline:
            groups = sorted({m.tests for m in mutants})
            for tests, passed in zip(
                groups, pool.map(lambda t: run_tests(t, None, cache), groups), strict=True
            ):
                print(f"{'passes' if passed else 'FAILS':9} without a mutant: {tests}", flush=True)
                if not passed:
                    return 2
        for mutant, result in zip(mutants, pool.map(lambda m: run(m, cache), mutants), strict=True):
            results.append(result)
            change = f"{mutant.old!r} -> {mutant.new!r}"
            print(f"{result:9} {mutant.path}: {change}", flush=True)
    caught = results.count("caught")
    print(f"\n{caught} of {len(results)} mutants caught ({caught / len(results):.0%}); survivors:")
    for mutant, result in zip(mutants, results, strict=True):
        if result != "caught":
            print(f"  {result}: {mutant.path}: {mutant.old!r}")
    return 0 if caught >= 0.9 * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
