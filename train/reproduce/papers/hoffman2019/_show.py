"""The tables and figures of Hoffman et al. 2019, from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from train import figures as drawings
from train.reproduce import Results, Table
from train.reproduce.figures import bars, curves
from train.reproduce.papers.hoffman2019._claims import ACCURACY, NORM, POINTS, USPS
from train.reproduce.papers.hoffman2019._jobs import (
    ATTACKED,
    COLUMNS,
    FGSM,
    MANY_STEPS,
    NOISE,
    PGD,
    PROBES,
    ROWS,
    TITLES,
)
from train.statistics import shown_rounded


def tables(results: Results) -> Sequence[Table]:
    """Return tables 1 and 2, the probes and the attacks."""
    return [
        _by_count(
            results, "test accuracy in %", "test/accuracy", ACCURACY,
            "The paper's numbers of the columns 1 to 30 were not found.", scale=POINTS,
        ),
        _by_count(
            results, "norm(J)_F", "test/jacobian_norm", NORM,
            "Mean Frobenius norm of d logits / d pixels over test images.", digits=2,
        ),
        _table2(results),
        _probes(results),
        _attacks(results),
    ]  # fmt: skip


def _by_count(
    results: Results, title: str, metric: str, theirs: Mapping[str, float], note: str,
    *, scale: float = 1.0, digits: int = 1,
) -> Table:  # fmt: skip
    """Return a metric of every model by the number of training images of a class."""
    rows = []
    for row in ROWS:
        arms = [f"table1/{row}/{column}" for column in COLUMNS]
        ours = [shown_rounded(scale * results.metric(arm, metric), digits) for arm in arms]
        rows.append([TITLES[row], *ours, f"{theirs[row]:g}"])
    columns = [f"{column} a class" if column != "all" else "all" for column in COLUMNS]
    return Table(f"Table 1: {title}", ["", *columns, "paper, all"], rows, note)


def _table2(results: Results) -> Table:
    usps = "usps" in results.settings.data
    rows = [
        [
            TITLES[row],
            shown_rounded(POINTS * results.metric(ATTACKED, f"{row}/other")),
            f"{USPS[row]:g}" if row in USPS else "-",
        ]
        for row in ROWS
    ]
    title = "USPS" if usps else "the digits of scikit-learn (in place of USPS)"
    note = (
        "Preprocessing: bilinear to 20x20, centred in 28x28 zeros, brightest pixel 255; the "
        "paper's was not found."
    )
    return Table(
        f"Table 2: MNIST to {title}, accuracy in %", ["", "ours", "paper, USPS"], rows, note
    )


def _probes(results: Results) -> Table:
    rows = []
    for name in PROBES:
        arm = f"probes/{name}"
        rows.append(
            [
                {"none": "no penalty", "exact": "exact"}.get(name, f"n_proj = {name}"),
                shown_rounded(POINTS * results.metric(arm, "test/accuracy")),
                shown_rounded(results.metric(arm, "test/jacobian_norm"), 3),
            ]
        )
    note = "MLP 784-200-200-10; norms are of the normalised input."
    return Table("The official MLP example", ["", "accuracy %", "norm(J)_F"], rows, note)


def _attacks(results: Results) -> Table:
    names = {
        f"pgd_{MANY_STEPS:g}": "PGD, 20 steps",
        "pgd_more": "PGD, 100 steps",
        "transfer": "PGD of the plain model",
    }
    rows = [
        [
            TITLES[row],
            *(shown_rounded(POINTS * results.metric(ATTACKED, f"{row}/{name}")) for name in names),
            shown_rounded(results.metric(ATTACKED, f"{row}/margin"), 2),
        ]
        for row in ROWS
    ]
    return Table(
        f"Attacks at scale {MANY_STEPS:g}: accuracy in %; median L2 distance to another class",
        ["", *names.values(), "distance (Carlini and Wagner)"],
        rows,
    )


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw table 1, the curves under noise and attacks, distances and decision cells."""
    groups = {
        ("all" if column == "all" else f"{column} a class"): {
            TITLES[row]: POINTS * results.metric(f"table1/{row}/{column}", "test/accuracy")
            for row in ROWS
        }
        for column in COLUMNS
    }
    caption = "Table 1: accuracy by samples a class; every seed a dot."
    found = [bars(groups, folder / "table1.png", caption, "test accuracy in %")]
    kinds = {"noise": ("white noise", NOISE), "fgsm": ("FGSM", FGSM), "pgd": ("PGD", PGD)}
    for kind, (title, scales) in kinds.items():
        lines = {}
        for row in ROWS:
            names = [f"{row}/{kind}_{scale:g}" for scale in scales]
            lines[TITLES[row]] = (scales, POINTS * results.metrics(ATTACKED, names))
        caption = f"Accuracy under {title}; bands are 95 % intervals of the mean."
        label = f"scale of {title}, pixels in [0, 1]"
        found.append(curves(lines, folder / f"{kind}.png", caption, label, "accuracy in %"))
    at = np.linspace(0, 4, 41)
    lines = {}
    stored = results.all_arrays(ATTACKED)
    for row in ROWS:
        distances = [each[f"{row}/distances"] for each in stored]
        shares = [[POINTS * (each > radius).mean() for radius in at] for each in distances]
        lines[TITLES[row]] = (at, np.asarray(shares))
    path, caption = (
        folder / "carlini-wagner.png",
        "Share of images that the L2 attack has not turned.",
    )
    found.append(curves(lines, path, caption, "L2 distance", "images not yet misread, in %"))
    cells = {
        TITLES[row]: {
            name.removeprefix(f"{row}/cells_"): array
            for name, array in stored[0].items()
            if name.startswith(f"{row}/cells_")
        }
        for row in ("none", "jacobian", "all")
    }
    seed = results.seeds[ATTACKED][0]
    caption = f"Decision cells on a plane through three test images, seed {seed}."
    picture = drawings.decision_cells(cells, folder / "decision-cells.png")
    return [*found, (picture.name, caption)]
