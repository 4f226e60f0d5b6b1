"""Tables and figures, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.reproduce import Results, Table
from train.reproduce.figures import curves, scatter
from train.reproduce.papers.rnode2020._effort import curve
from train.statistics import shown_rounded

STEPS = (1.0, 0.5, 0.25)
_ERRORS = [f"test/rk4_error@{step:g}" for step in STEPS]
_COLUMNS = {
    "nll (nats)": ("test/nll", 3),
    "evaluations": ("test/nfe", 0),
    "norm(df/dx)_F": ("test/jacobian_norm", 2),
    "kinetic energy": ("test/kinetic_energy", 2),
}


def tables(results: Results) -> Sequence[Table]:
    """Return what each arm measured."""
    rows = []
    for arm in results.arms:
        cells = [arm]
        for metric, digits in _COLUMNS.values():
            cells.append(shown_rounded(results.metric(arm, metric), digits))
        timings = [results.summary(arm, seed).get("timing", {}) for seed in results.seeds[arm]]
        # None where a run that was stopped had only its evaluation left.
        rates = [found["ms_per_step"] for found in timings if found.get("ms_per_step")]
        last = [results.lines(arm, seed)[-1:] for seed in results.seeds[arm]]
        spent = [line["train/nfe"] for lines in last for line in lines if "train/nfe" in line]
        cells.append(f"{np.mean(spent):.0f}" if spent else "")
        rows.append([*cells, f"{np.mean(rates):.1f}" if rates else ""])
    note = (
        "The test solves with dopri5 at 1e-5 and the exact divergence. adaptive trains with the "
        "same solver, fixed with four steps of rk4; rnode has both penalties at 0.01, and "
        "tables have four fixed steps. in training: evaluations of a solve of the last 100 steps, "
        "by its solver; where that is adaptive, it controls the error of the penalties' two "
        "integrals besides, which the test does not have."
    )
    columns = ["flow", *_COLUMNS, "in training", "ms a step"]
    found = [Table("Trained flows", columns, rows, note)]
    errors = []
    for arm in _planar(results):
        means = results.metrics(arm, _ERRORS).mean(0)
        errors.append([arm, *(f"{mean:.2g}" for mean in means)])
    columns = ["flow", *(f"step {step:g}" for step in STEPS)]
    note = "Mean distance in nats of a test point's log density from that of the adaptive solver."
    return [*found, Table("Error of fixed steps", columns, errors, note)]


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw the paper's figure and what belongs to it."""
    points: dict[str, tuple[Any, Any]] = {}
    for arm in _planar(results):
        lines = [line for seed in results.seeds[arm] for line in results.lines(arm, seed)]
        kept = [line for line in lines if line.get("test/jacobian_norm") is not None]
        points[arm] = (
            np.asarray([line["test/jacobian_norm"] for line in kept]),
            np.asarray([line["test/nfe"] for line in kept]),
        )
    spent: dict[str, tuple[Sequence[float], Any]] = {}
    for arm in ("adaptive/vanilla", "adaptive/rnode", "fixed/rnode"):
        found = [curve(results.lines(arm, seed)) for seed in results.seeds[arm]]
        if len({len(nll) for _, nll in found}) == 1:
            middle = np.mean([evaluations for evaluations, _ in found], axis=0)
            spent[arm] = (middle.tolist(), np.stack([nll for _, nll in found]))
    return [
        scatter(
            points,
            folder / "evaluations.png",
            "Evaluations of the field against its Jacobian norm, at every evaluation of every run.",
            "root mean square of norm(df/dx)_F along the path",
            "evaluations of the field in a test solve",
        ),
        curves(
            spent,
            folder / "likelihood.png",
            "Test likelihood against what training spent; the band is the 95 % interval.",
            "evaluations of the field in training (mean over seeds)",
            "test nll (nats)",
        ),
        curves(
            {arm: (STEPS, results.metrics(arm, _ERRORS)) for arm in _planar(results)},
            folder / "fixed-steps.png",
            "How wrong fixed steps are, by their size; the band as before.",
            "step of rk4",
            "error of log density (nats)",
            log_y=True,
        ),
    ]


def _planar(results: Results) -> list[str]:
    return [arm for arm in results.arms if arm.startswith(("adaptive/", "fixed/"))]
