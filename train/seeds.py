"""`python -m train.seeds CONFIG`: a run and another over several seeds, paired.

The other is the same config without its penalties, or with other values.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.command import ended, leave
from train.errors import DivergedError, UserError, some
from train.interrupt import terminated
from train.statistics import MOST_SEEDS, student_interval
from train.tables import QUICKSTART, read_tables

if TYPE_CHECKING:
    from train.progress import Reporter
    from train.reproduce import Job
    from train.sections import Config

_PLAIN, _PENALISED = "plain", "penalised"
_OTHER, _CONFIG_ITSELF = "other", "config"
_TITLES = {_PLAIN: "no penalty", _OTHER: "the other", _CONFIG_ITSELF: "the config"}
_DESCRIPTION = """\
Run a config with its penalties and with every penalty weight 0 for several seeds, and show
the paired differences of the test metrics with 95 % intervals (Student's t over seeds).
With --against the other run has these values instead of penalty weights 0.
Several runs go at a time, on a CPU each on a core of its own.

  python -m train.seeds configs/quickstart.toml --seeds 5
  python -m train.seeds configs/quickstart.toml training.steps=300 --weights 0.001 0.01 0.1
  python -m train.seeds configs/certified/mnist.toml --against model.constrained=false
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
        default=QUICKSTART,
        type=Path,
        help="default configs/quickstart.toml",
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default 5)")
    parser.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="WEIGHT",
        help="of the first penalty, each compared with none (default: the config's)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=(),
        metavar="section.key=value",
        help="what the other run has in place of penalty weights 0",
    )
    parser.add_argument("--workers", type=int, help="runs at a time (default: one a core)")
    parser.add_argument("--workdir", type=Path, help="default runs/<experiment.name>-seeds")
    chosen = parser.parse_intermixed_args(arguments)
    if "=" in str(chosen.config) and not chosen.config.exists():  # no config, overrides alone
        chosen.overrides, chosen.config = [str(chosen.config), *chosen.overrides], QUICKSTART
    if chosen.against and chosen.weights:
        parser.error("--weights: each is compared with none, so --against cannot stand beside it")
    if chosen.seeds < 2:
        parser.error(f"--seeds: got {chosen.seeds}, expected at least 2 for an interval")
    if chosen.seeds > MOST_SEEDS:
        parser.error(f"--seeds: got {chosen.seeds}, expected at most {MOST_SEEDS}")
    if chosen.workers is not None and chosen.workers < 1:
        parser.error(f"--workers: got {chosen.workers}, expected at least 1")
    return ended(lambda: _compare(chosen), stopped="stopped")


def _compare(chosen: argparse.Namespace) -> None:
    read_tables(chosen.config)
    # JAX takes seconds to import: --help and a wrong path should not.
    from train import config as configs
    from train import records
    from train.pairs import without_penalty
    from train.progress import Reporter
    from train.reproduce import default_workers, run_all_jobs
    from train.workdir import locked

    for override in (*chosen.overrides, *chosen.against):
        if override.partition("=")[0].strip() == "experiment.seed":
            raise UserError(
                f"{override}: each run has a seed of its own here, 0 to {chosen.seeds - 1}. Leave "
                "it out; --seeds says how many."
            )
    config = configs.load(chosen.config, chosen.overrides)
    if not chosen.against:
        without_penalty(config)  # there is one to leave out
    arms = _arms(config, chosen.overrides, chosen.weights, chosen.against)
    for overrides in arms.values():
        configs.load(chosen.config, overrides)
    jobs = _jobs(chosen.config, arms, chosen.seeds)
    name = config.experiment.name
    folder = chosen.workdir or Path("runs") / f"{name}-seeds"
    with terminated(), locked(folder):
        run_all_jobs(jobs, folder, title=name, workers=chosen.workers or default_workers())
        found = _summaries(jobs, folder)
        reporter = Reporter("seeds", 1)
        first, *others = arms
        differences = {
            arm: _show(reporter, f"{name}, {arm}: {chosen.seeds} seeds", found, first, arm)
            for arm in others
        }
        record: dict[str, Any] = {"experiment": name, "seeds": chosen.seeds}
        if chosen.weights is None:
            record |= differences[others[0]]
            if chosen.against:
                record["against"] = list(chosen.against)
        else:
            record["weights"] = differences
        records.write_json(folder / "seeds.json", record)
        titles = {_OTHER: ", ".join(chosen.against), _CONFIG_ITSELF: name}
        shown = {titles.get(arm, arm): summaries for arm, summaries in found.items()}
        _draw_certificates(shown, config.evaluation.certified, folder)
    reporter.say(f"Records: {folder}")


def _arms(
    config: Config,
    overrides: Sequence[str],
    weights: Sequence[float] | None,
    against: Sequence[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Return the overrides of each arm, that without penalties or the other one first."""
    if against:
        other = (*overrides, *against, f'experiment.name="{config.experiment.name}-other"')
        return {_OTHER: other, _CONFIG_ITSELF: tuple(overrides)}
    zero = [f"penalty.{index}.weight=0" for index in range(len(config.penalty))]
    arms = {_PLAIN: (*overrides, *zero, f'experiment.name="{config.experiment.name}-plain"')}
    if weights is None:
        return {**arms, _PENALISED: tuple(overrides)}
    for weight in weights:
        arms[f"weight-{weight!r}"] = (*overrides, f"penalty.0.weight={weight!r}")
    return arms


def _jobs(config: Path, arms: Mapping[str, tuple[str, ...]], seeds: int) -> list[Job]:
    from train.reproduce import training

    # Seed by seed, so that pairs are whole early.
    return [
        job
        for seed in range(seeds)
        for arm, overrides in arms.items()
        for job in training(
            arm, [seed], config, overrides, cost=1 + (arm not in _TITLES), pictures=True
        )
    ]


def _summaries(jobs: Sequence[Job], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the summaries of each arm, by seed.

    Raises:
        DivergedError: of some runs. A mean of the others alone would be of what did not diverge.
    """
    from train import records
    from train.reproduce import DIVERGED

    found: dict[str, list[dict[str, Any]]] = {}
    diverged: list[str] = []
    for job in jobs:
        place = folder / "runs" / job.name
        summary = records.read_json(place / records.SUMMARY)
        assert summary is not None
        if summary["status"] == DIVERGED:
            diverged.append(job.name)
        found.setdefault(job.arm, []).append(summary)
    if diverged:
        raise DivergedError(
            f"{some(diverged, 6)} ({len(diverged)} of {len(jobs)} runs): the loss or its gradient "
            "was not finite, so there are no pairs of all seeds to compare. What the first said is "
            f"in {folder / 'runs' / diverged[0] / 'log.txt'}; the records of the others are beside "
            "it."
        )
    return found


def _show(
    reporter: Reporter,
    title: str,
    found: Mapping[str, Sequence[dict[str, Any]]],
    first: str,
    arm: str,
) -> dict[str, Any]:
    """Show the paired differences of one arm from the first; return what is recorded of them."""
    from train.pairs import Pair

    plain, penalised = found[first], found[arm]
    pairs = [Pair(*each) for each in zip(plain, penalised, strict=True)]
    common = set.intersection(*(pair.shared_metrics() for pair in pairs))
    named = dict.fromkeys(name for pair in pairs for side in pair for name in side["metrics"])
    left_out = [name for name in named if name not in common]
    intervals = {
        name: student_interval([pair.difference(name) for pair in pairs])
        for name in named
        if name in common
    }
    lines = []
    for name, interval in intervals.items():
        means = [
            np.mean([summary["metrics"][name] for summary in side]) for side in (plain, penalised)
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
    reporter.table(
        f"{title}, accuracies in %",
        [
            "metric",
            *(_TITLES.get(each, "penalty") for each in (first, arm)),
            "difference",
            "95 % interval",
            "excludes 0",
        ],
        lines,
    )
    if left_out:
        reporter.say(f"Not measured as a number in every run, so left out: {', '.join(left_out)}")
    return {
        "differences": {name: interval._asdict() for name, interval in intervals.items()},
        "left_out": left_out,
    }


def _draw_certificates(
    found: Mapping[str, Sequence[dict[str, Any]]], radii: Sequence[float], folder: Path
) -> None:
    """Draw certified against attacked accuracy, where the runs measured it."""
    from train.reproduce.figures import certificates

    if radii:
        arms = {
            title: lambda name, summaries=summaries: [
                summary["metrics"][name] for summary in summaries
            ]
            for title, summaries in found.items()
        }
        certificates(arms, [f"{radius:g}" for radius in radii], folder / "certified.png")


if __name__ == "__main__":
    leave(main)
