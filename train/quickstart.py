"""`python -m train.quickstart`: LeNet' with and without the Jacobian penalty, side by side."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from train.command import ended, leave
from train.tables import QUICKSTART


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.quickstart", description=__doc__)
    parser.add_argument(
        "--workdir", type=Path, default=Path("runs"), help="folder of the two runs (default runs)"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    chosen = parser.parse_args(arguments)
    return ended(lambda: _compare(chosen.workdir, chosen.overrides))


def _compare(folder: Path, overrides: Sequence[str]) -> None:
    # JAX takes seconds to import: --help should not.
    from train import config as configs
    from train import figures, records
    from train.pairs import rows, run_pair
    from train.progress import Reporter
    from train.run import use_compilation_cache

    started = time.perf_counter()
    config = configs.load(QUICKSTART, overrides)
    use_compilation_cache()
    name = config.experiment.name
    plain, penalised = folder / f"{name}-plain", folder / name
    pair = run_pair(config, plain, penalised)
    picture = figures.decision_cells(
        {
            title: records.read_arrays(workdir / figures.CELLS)
            for title, workdir in (("no penalty", plain), ("Jacobian penalty", penalised))
        },
        penalised / "figures" / "decision_cells_side_by_side.png",
    )
    reporter = Reporter(name, config.training.steps)
    reporter.table(
        f"{config.model.name} on {config.data.path or config.data.name}, "
        f"{config.training.steps} steps",
        ["metric", "no penalty", "Jacobian penalty"],
        rows(pair),
    )
    norms = [summary["metrics"]["test/jacobian_norm"] for summary in pair]
    reporter.say(
        f"norm(J)_F is {norms[0] / norms[1]:.1f} times smaller with the penalty, at "
        f"{100 * pair.difference('test/accuracy'):+.1f} points of accuracy."
    )
    reporter.say(f"Decision cells of both models, in a plane through three test images: {picture}")
    reporter.say(f"Records: {plain} and {penalised}  ({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    leave(main, at_once=True)
