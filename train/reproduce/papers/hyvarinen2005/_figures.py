"""Tables and figures, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.reproduce import Results, Table, uci
from train.reproduce.figures import by_dimension, costs, curves, scatter
from train.reproduce.papers.hyvarinen2005._plan import densities, dimensions
from train.reproduce.papers.ssm2019._claims import share
from train.statistics import shown_interval


def tables(results: Results) -> Sequence[Table]:
    """Return errors by density and the tables' objectives."""
    rows = []
    for arm in [*densities(results.settings), "linear/gaussian-mixture"]:
        constant = 0.5 * results.metric(arm, "test/true_score_squared")
        rows.append(
            [
                arm,
                shown_interval(share(results, arm), ".2g"),
                shown_interval(results.metric(arm, "test/score_matching")),
                f"{-constant.mean():.3g}",
            ]
        )
    note = (
        "Error: mean of norm(s - true score)^2 at test points over the mean of norm(true score)^2. "
        "The objective is exact, and its least value minus half of the latter mean. linear is a "
        "network without hidden layers."
    )
    columns = ["density", "error of the score", "test objective", "its least value"]
    found = [Table("Densities with a known score", columns, rows, note)]
    if results.settings.data:
        rows = [
            [
                name,
                shown_interval(results.metric(f"table/{name}", "test/score_matching")),
                f"{-uci.FEATURES[name] / 2:g}",
            ]
            for name in results.settings.data
        ]
        columns = ["table", "test objective", "of a Gaussian"]
        found.append(Table("Tables", columns, rows))
    return found


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw the theorem, consistency, and error and cost against dimension."""
    found = zip(results.seeds["theorem"], results.all_arrays("theorem"), strict=True)
    counts = results.stacked("gaussian-model", "counts")[0].tolist()
    sizes = dimensions(results.settings)
    errors = np.stack([share(results, f"gaussian/{size}") for size in sizes], axis=1)
    return [
        scatter(
            {
                f"networks of seed {seed}": (each["distance"], each["objective"])
                for seed, each in found
            },
            folder / "theorem.png",
            "The objective against the distance to the true score, for networks drawn at random: "
            "the theorem is a line of slope 1.",
            "half the mean squared distance to the true score",
            "objective",
        ),
        curves(
            {"inverse covariance": (counts, results.stacked("gaussian-model", "to_truth"))},
            folder / "consistency.png",
            "A Gaussian's inverse covariance by score matching; band: 95 %.",
            "samples",
            "relative error",
            log_x=True,
            log_y=True,
        ),
        by_dimension(
            {"exact score matching": (sizes, errors)},
            folder / "error.png",
            "Error of the score of a Gaussian (correlation 0.8) by dimension.",
            "error, share of the score 0's",
        ),
        costs(
            results,
            ("plain", "exact", "automatic"),
            folder / "cost.png",
            "What the cores spend on a gradient, by dimension: plain is one pass without a trace, "
            "exact takes a product a dimension, automatic is exact by jacreg's own choice.",
            "core ms of a gradient",
        ),
    ]
