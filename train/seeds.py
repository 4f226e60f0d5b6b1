"""`python -m train.seeds CONFIG`: with and without the penalty over several seeds, paired."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from train.errors import UserError
from train.statistics import student_interval

if TYPE_CHECKING:
    from train.pairs import Pair

_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "quickstart.toml"
_DESCRIPTION = """\
Run a config with its penalties and with every penalty weight 0 for several seeds, and show
the paired differences of the test metrics with 95 % intervals (Student's t over seeds).

  python -m train.seeds configs/quickstart.toml --seeds 5
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.seeds",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        default=_CONFIG,
        help="default configs/quickstart.toml",
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default 5)")
    parser.add_argument("--workdir", type=Path, help="default runs/<experiment.name>-seeds")
    chosen = parser.parse_intermixed_args(arguments)
    if chosen.seeds < 2:
        parser.error(f"--seeds: got {chosen.seeds}, expected at least 2 for an interval")
    try:
        _compare(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _compare(chosen: argparse.Namespace) -> None:
    # JAX takes seconds to import: --help should not.
    from train import config as configs
    from train import records
    from train.pairs import run_pair
    from train.progress import Reporter
    from train.run import use_compilation_cache

    use_compilation_cache()
    pairs: list[Pair] = []
    experiment = configs.load(chosen.config, chosen.overrides).experiment.name
    folder = chosen.workdir or Path("runs") / f"{experiment}-seeds"
    for seed in range(chosen.seeds):
        config = configs.load(chosen.config, [*chosen.overrides, f"experiment.seed={seed}"])
        pairs.append(run_pair(config, folder / f"plain-{seed}", folder / f"penalised-{seed}"))
    common = set.intersection(*(pair.shared_metrics() for pair in pairs))
    named = dict.fromkeys(name for pair in pairs for side in pair for name in side["metrics"])
    left_out = [name for name in named if name not in common]
    intervals = {
        name: student_interval([pair.difference(name) for pair in pairs])
        for name in named
        if name in common
    }
    records.write_json(
        folder / "seeds.json",
        {
            "experiment": experiment,
            "seeds": chosen.seeds,
            "differences": {name: interval._asdict() for name, interval in intervals.items()},
            "left_out": left_out,
        },
    )
    lines = []
    for name, interval in intervals.items():
        means = [
            np.mean([summaries["metrics"][name] for summaries in side])
            for side in zip(*pairs, strict=True)
        ]
        scale = 100.0 if "accuracy" in name else 1.0
        low, high = scale * interval.low, scale * interval.high
        lines.append(
            [
                name,
                *(f"{scale * mean:.4g}" for mean in means),
                f"{scale * interval.mean:+.4g}",
                f"{low:+.4g} to {high:+.4g}",
                "yes" if low > 0 or high < 0 else "no",
            ]
        )
    reporter = Reporter("seeds", 1)
    reporter.table(
        f"{experiment}: {chosen.seeds} seeds, accuracies in %",
        ["metric", "no penalty", "penalty", "difference", "95 % interval", "excludes 0"],
        lines,
    )
    if left_out:
        reporter.say(f"Not measured as a number in every run, so left out: {', '.join(left_out)}")
    reporter.say(f"Records: {folder}")


if __name__ == "__main__":
    sys.exit(main())
