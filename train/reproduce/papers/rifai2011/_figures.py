"""Tables and pictures of norms, saturation, contraction and spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.reproduce import Results, Table
from train.reproduce.figures import bars, curves
from train.reproduce.papers.rifai2011._jobs import LARGE, NORM, ROWS, SATURATION
from train.statistics import shown_interval

_CONTRACTION, _SINGULAR = "pretrain/contraction_at_", "pretrain/singular_value_"


def tables(results: Results) -> Sequence[Table]:
    """Return table 1 and the spectra."""
    rows, spectra, ranks = [], [], _places(results, _SINGULAR)
    for arm in results.arms:
        row = ROWS.get(arm)
        theirs = [f"{value:g}" for value in row[2:]] if row else ["-"] * 3
        ours = [
            shown_interval(100 * (1 - results.metric(arm, "test/accuracy"))),
            shown_interval(results.metric(arm, NORM)),
            shown_interval(100 * results.metric(arm, SATURATION)),
        ]
        pairs = [cell for both in zip(ours, theirs, strict=True) for cell in both]
        rows.append([_title(arm), *pairs, shown_interval(results.metric(arm, "pretrain/hessian"))])
        values = [shown_interval(results.metric(arm, f"{_SINGULAR}{rank:g}")) for rank in ranks]
        spectra.append([_title(arm), shown_interval(results.metric(arm, LARGE)), *values])
    heads = ["error %", "norm(J)", "SAT %"]
    columns = [f"{head}, {whose}" for head in heads for whose in ("ours", "theirs")]
    return [
        Table(
            "Table 1",
            ["", *columns, "change of J"],
            rows,
            "The paper's norms are x 1e-4 in a normalisation that was not found: only ratios "
            "compare.",
        ),
        Table(
            "Singular values of J_f",
            [
                "",
                "above a tenth of the largest",
                *(f"no. {rank:g}" for rank in ranks),
            ],
            spectra,
            "Means over test digits, after pre-training.",
        ),
    ]


def _places(results: Results, start: str) -> list[float]:
    """Return the numbers that end the names of a family of metrics."""
    metrics = results.summary("ae", results.seeds["ae"][0])["metrics"]
    return sorted(float(name.removeprefix(start)) for name in metrics if name.startswith(start))


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw the contraction curves, the spectra, and table 1."""
    groups = {
        row.title: {
            "norm(J)_F": results.metric(arm, NORM),
            "saturated [%]": 100 * results.metric(arm, SATURATION),
        }
        for arm, row in ROWS.items()
    }
    return [
        curves(
            _lines(results, _CONTRACTION),
            folder / "contraction.png",
            "Contraction ratio against distance, random directions.",
            "distance norm(d)",
            "norm(f(x + d) - f(x)) / norm(d)",
            log_x=True,
        ),
        curves(
            _lines(results, _SINGULAR),
            folder / "spectrum.png",
            "Singular values of the encoder's Jacobian, means over test digits.",
            "number",
            "singular value of J_f",
            log_x=True,
            log_y=True,
        ),
        bars(
            groups,
            folder / "table-1.png",
            "Mean norm and saturated units before fine-tuning, every seed a dot.",
            "after pre-training",
        ),
    ]


def _lines(results: Results, start: str) -> dict[str, tuple[Sequence[float], Any]]:
    """Return a family of metrics by arm: at which numbers, and the values `[seeds, numbers]`."""
    places = _places(results, start)
    names = [f"{start}{x:g}" for x in places]
    return {_title(arm): (places, results.metrics(arm, names)) for arm in results.arms}


def _title(arm: str) -> str:
    return ROWS[arm].title if arm in ROWS else "CAE+H"
