"""Tables and pictures of the networks' norms, gaps and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.reproduce import Results, Table
from train.reproduce.figures import Drawn, bars, curves, scatter
from train.reproduce.papers.novak2018._claims import pairs, ratios
from train.reproduce.papers.novak2018._jobs import ACTIVATIONS, BATCHES, LABELS, grid
from train.statistics import shown_interval, student_interval

_COLUMNS = {
    "mean_norm": "norm(J)_F, probabilities",
    "mean_logit_norm": "norm(J)_F, logits",
    "mean_gap": "gap",
    "mean_test_accuracy": "test accuracy",
    "least_train_accuracy": "least training accuracy",
}


def tables(results: Results) -> Sequence[Table]:
    """Return what the networks of each setting were like."""
    rows = []
    for arm in results.arms:
        cells = [arm, *(shown_interval(results.metric(arm, metric)) for metric in _COLUMNS)]
        steps = np.concatenate([each["steps"] for each in results.all_arrays(arm)])
        rows.append([*cells, f"{np.median(steps):.0f}"])
    note = (
        "Training stops at a loss of 0.01 or at 4000 steps, whichever comes first. "
        "Means over the networks of a seed (of norms geometric ones, of training accuracies the "
        "least), then over seeds."
    )
    settings = Table("Settings", ["setting", *_COLUMNS.values(), "steps (median)"], rows, note)
    rows = []
    for labels in LABELS:
        for batch in BATCHES:
            relu, tanh = grid([labels], [batch], ["relu"]), grid([labels], [batch], ["tanh"])
            ours = student_interval(np.log(ratios(results, relu, tanh, "mean_norm")))
            low, middle, high = (np.exp(each) for each in (ours.low, ours.mean, ours.high))
            rows.append([labels, batch, f"{middle:.3f}", f"{low:.3f} to {high:.3f}"])
    columns = ["labels", "batch", "norm of relu / tanh", "95 % interval"]
    return [settings, Table("relu against tanh", columns, rows)]


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw norm and transitions against gap, the norms of the settings, error by norm."""
    true = grid(["true"])
    families = {arm: pairs(results, [arm], "norm") for arm in grid()}
    penalised = {
        arm: pairs(results, [arm], "norm") for arm in (f"penalised/{name}" for name in ACTIVATIONS)
    }
    crossings = {arm: pairs(results, [arm], "transitions") for arm in grid(activations=["relu"])}
    by_norm = {}
    for arm in true:
        errors = results.stacked(arm, "error_by_norm").mean(1)
        by_norm[arm] = (np.arange(errors.shape[1]) + 1, 100 * errors)

    def gaps(groups: Mapping[str, Any], file: str, caption: str, label: str) -> Drawn:
        return scatter(groups, folder / file, caption, label, "generalisation gap", log_x=True)

    norm = "mean test norm(J)_F"
    return [
        gaps(
            families,
            "gap-by-norm.png",
            "Every network of the grid: gap against the mean norm.",
            norm,
        ),
        gaps(
            {arm: families[arm] for arm in true} | penalised,
            "gap-by-norm-true-labels.png",
            "True labels alone, and the penalised networks.",
            norm,
        ),
        gaps(
            crossings,
            "gap-by-transitions.png",
            "relu networks: gap against linear-region transitions.",
            "linear-region transitions along a closed path",
        ),
        bars(
            {
                setting: {
                    name: results.metric(f"{setting}/{name}", "mean_norm") for name in ACTIVATIONS
                }
                for setting in ("true/full", "true/mini", "augmented", "penalised")
            },
            folder / "norms.png",
            "Mean norms with true labels, every seed a dot.",
            norm,
        ),
        curves(
            by_norm,
            folder / "error-by-norm.png",
            "Points with a large norm are wrong more often (95 % bands).",
            "tenth of the test points, by norm(J)_F",
            "test error [%]",
        ),
    ]
