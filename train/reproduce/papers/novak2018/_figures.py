"""Tables and pictures of the networks' norms, gaps and errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.reproduce import Results, Table
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
        steps = np.concatenate([results.arrays(arm, seed)["steps"] for seed in results.seeds[arm]])
        rows.append([*cells, f"{np.median(steps):.0f}"])
    note = (
        "Training stops at a loss of 0.01 or at 4000 steps, whichever comes first. "
        "Means over the networks of a seed (of norms geometric ones, of training accuracies the "
        "least), then over seeds; ± is half of the 95 % interval over seeds."
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
    from train.reproduce.figures import bars, curves, scatter

    true = grid(["true"])
    families = {arm: pairs(results, [arm], "norm") for arm in grid()}
    scatter(
        families,
        folder / "gap-by-norm.png",
        "mean test norm(J)_F",
        "generalisation gap",
        log_x=True,
    )
    scatter(
        {arm: families[arm] for arm in true}
        | {
            f"penalised/{name}": pairs(results, [f"penalised/{name}"], "norm")
            for name in ACTIVATIONS
        },
        folder / "gap-by-norm-true-labels.png",
        "mean test norm(J)_F",
        "generalisation gap",
        log_x=True,
    )
    scatter(
        {arm: pairs(results, [arm], "transitions") for arm in grid(activations=["relu"])},
        folder / "gap-by-transitions.png",
        "linear-region transitions along a closed path",
        "generalisation gap",
        log_x=True,
    )
    bars(
        {
            setting: {
                name: results.metric(f"{setting}/{name}", "mean_norm") for name in ACTIVATIONS
            }
            for setting in ("true/full", "true/mini", "augmented", "penalised")
        },
        folder / "norms.png",
        "mean test norm(J)_F",
    )
    by_norm = {}
    for arm in true:
        errors = results.stacked(arm, "error_by_norm").mean(1)
        by_norm[arm] = (np.arange(errors.shape[1]) + 1, 100 * errors)
    curves(
        by_norm,
        folder / "error-by-norm.png",
        "tenth of the test points, by norm(J)_F",
        "test error [%]",
    )
    return [
        ("gap-by-norm.png", "Every network of the grid: gap against the mean norm."),
        ("gap-by-norm-true-labels.png", "True labels alone, and the penalised networks."),
        ("gap-by-transitions.png", "relu networks: gap against linear-region transitions."),
        ("norms.png", "Mean norms with true labels, every seed a dot."),
        ("error-by-norm.png", "Points with a large norm are wrong more often (95 % bands)."),
    ]
