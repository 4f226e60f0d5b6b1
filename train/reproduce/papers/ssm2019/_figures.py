"""Tables and figures, from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.reproduce import Results, Table
from train.reproduce.figures import bars, by_dimension, costs
from train.reproduce.papers.ssm2019._claims import share
from train.reproduce.papers.ssm2019._measure import LOSSES
from train.reproduce.papers.ssm2019._plan import SLICED, dimensions
from train.reproduce.timing import counted
from train.statistics import shown_interval

_TITLES = ("exact", "sliced", "sliced-vr", f"sliced-vr-{SLICED}", "denoising")


def tables(results: Results) -> Sequence[Table]:
    """Return errors by dimension, cost by dimension and the tables' objectives."""
    sizes = dimensions(results.settings)
    rows = []
    for loss in _TITLES:
        arms = [f"mixture-{size}/{loss}" for size in sizes]
        cells = [
            shown_interval(share(results, arm), ".2g") if arm in results.seeds else ""
            for arm in arms
        ]
        rows.append([loss, *cells])
    note = (
        "Mean of norm(s - true score)^2 at test points, over the mean of norm(true score)^2: the "
        "score 0 has 1."
    )
    found = [Table("Error of the score", ["loss", *(f"d = {s}" for s in sizes)], rows, note)]
    times = counted(results, LOSSES)
    measured, rows = times["plain"][0], []
    for loss in LOSSES:
        exponents = results.metric("cost", f"exponent/{loss}")
        exponent = "" if loss == "plain" else shown_interval(exponents, ".2g")
        cells = [f"{1000 * value:.2f}" for value in np.median(times[loss][1], axis=0)]
        rows.append([loss, *cells, exponent])
    columns = ["loss", *(f"d = {size:g}, ms" for size in measured), "exponent over plain"]
    note = (
        "A gradient of 32 draws of N(0, I_d), what the cores spend; least of 25 turns, median "
        "over seeds. The trace is exact in two: by a product a dimension (exact), and by what "
        "jacreg chooses (automatic), a closed form for this network."
    )
    found.append(Table("Cost", columns, rows, note))
    names = [name for name in results.settings.data if f"{name}/exact" in results.seeds]
    if names:
        rows = [
            [
                loss,
                *(
                    shown_interval(results.metric(f"{name}/{loss}", "test/score_matching"))
                    for name in names
                ),
            ]
            for loss in _TITLES
            if f"{names[0]}/{loss}" in results.seeds
        ]
        note = "Hyvarinen's objective with its exact trace on the test rows; lower is better."
        found.append(Table("Test objective on tables", ["loss", *names], rows, note))
    return found


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw error and cost against dimension, and the tables' objectives."""
    sizes = dimensions(results.settings)
    errors = {
        loss: (
            sizes,
            np.stack([share(results, f"mixture-{size}/{loss}") for size in sizes], axis=1),
        )
        for loss in _TITLES
        if all(f"mixture-{size}/{loss}" in results.seeds for size in sizes)
    }
    found = [
        by_dimension(
            errors,
            folder / "error.png",
            "Error of the learnt score by dimension; the band is the 95 % interval.",
            "error, share of the score 0's",
        ),
        costs(
            results,
            LOSSES,
            folder / "cost.png",
            "What the cores spend on a gradient, by dimension; plain is one pass without a "
            "Jacobian.",
            "core ms of a gradient",
        ),
    ]
    groups = {
        name: {
            loss: results.metric(f"{name}/{loss}", "test/score_matching")
            for loss in _TITLES
            if f"{name}/{loss}" in results.seeds
        }
        for name in results.settings.data
        if f"{name}/exact" in results.seeds
    }
    if groups:
        caption = "The exact objective on the tables' test rows."
        label = "test objective (lower is better)"
        found.append(bars(groups, folder / "tables.png", caption, label))
    return found
