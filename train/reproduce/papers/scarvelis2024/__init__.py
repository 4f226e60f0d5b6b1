"""Scarvelis and Solomon 2024: the nuclear norm by noise alone, against closed forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.reproduce import (
    Claim,
    Job,
    Paper,
    Results,
    Settings,
    Table,
    mean,
    measurement,
)
from train.reproduce.figures import curves
from train.reproduce.papers.scarvelis2024._measure import denoise_ball, soft_threshold
from train.statistics import shown_interval

# Dimensions, eta and the radius of the domain.
_BALLS = {
    "n2-eta0.1": (2, 0.1, 4.0),
    "n2-eta0.25": (2, 0.25, 4.0),
    "n5-eta0.01": (5, 0.01, 2.0),
    "n5-eta0.05": (5, 0.05, 2.0),
}
# The share of the closed form's shrinkage n eta by which a level may miss.
_TOLERANCE = 0.25
_ETA = 0.4
_SIZES: Mapping[str, dict[str, Any]] = {
    "quick": dict(width=64, middle=16, batch=256, rate=5e-3, scale=0.02),
    "full": dict(width=256, middle=64, batch=2048, rate=2e-3, scale=0.01),
}
_STEPS = {"quick": {2: 32000, 5: 32000}, "full": {2: 40000, 5: 80000}}
_PLACE = "the ROF problem with its closed form"
_THEOREM = "the theorem on g after h"


def _jobs(settings: Settings) -> Sequence[Job]:
    found, seeds = [], settings.each_seed
    for arm, (dimensions, eta, radius) in _BALLS.items():
        found += measurement(
            f"ball/{arm}",
            seeds,
            denoise_ball,
            dimensions=dimensions,
            eta=eta,
            radius=radius,
            steps=_STEPS[settings.scale][dimensions],
            cost=2.0 * dimensions,
            **_SIZES[settings.scale],
        )
    found += measurement(
        "linear", seeds, soft_threshold, eta=_ETA, steps=3000, batch=128, rate=0.01
    )
    return found


def _claims(settings: Settings) -> Sequence[Claim]:
    found = []
    for arm, (dimensions, eta, _) in _BALLS.items():
        shrinkage = dimensions * eta
        where = f"n = {dimensions}, eta = {eta}"
        found += [
            Claim(
                id=f"{arm}-level",
                claim=f"Inside the ball the solution is 1 - n eta ({where}), to within a quarter "
                "of the shrinkage n eta: the mean of f within radius 0.8.",
                place=_PLACE,
                paper=1 - shrinkage,
                statistic=mean("level", f"ball/{arm}"),
                above=1 - (1 + _TOLERANCE) * shrinkage,
                below=1 - (1 - _TOLERANCE) * shrinkage,
                about_penalty=True,
            ),
            Claim(
                id=f"{arm}-outside",
                claim=f"Outside it is 0 ({where}): the mean of f beyond radius 1.25.",
                place=_PLACE,
                paper=0.0,
                statistic=mean("outside", f"ball/{arm}"),
                above=-0.05,
                below=0.05,
            ),
            Claim(
                id=f"{arm}-best-factors",
                claim="What is penalised, the two Frobenius norms, is at its minimum the nuclear "
                f"norm ({where}): their ratio over the domain, 1 at the best factors.",
                place=_THEOREM,
                paper=1.0,
                statistic=mean("surrogate_ratio", f"ball/{arm}"),
                below=1.25,
                unit="times",
                about_penalty=True,
            ),
        ]
    found.append(
        Claim(
            id="linear-soft-threshold",
            claim="Linear g and h shrink every singular value of a matrix by eta, to 0 at least, "
            "as the nuclear norm does (a consequence; the experiment is ours): the largest error.",
            place=_THEOREM,
            paper=0.0,
            statistic=mean("largest_error", "linear"),
            below=0.05,
            about_penalty=True,
        )
    )
    return found


def _tables(results: Results) -> Sequence[Table]:
    rows = []
    for arm, (dimensions, eta, radius) in _BALLS.items():
        cells = [str(dimensions), str(eta)]
        for metric in ("level", "outside", "relative_error", "surrogate_ratio"):
            cells.append(shown_interval(results.metric(f"ball/{arm}", metric), ".3f"))
        bounded = dimensions * eta / (radius**dimensions - 1)
        rows.append(
            [*cells[:2], f"{1 - dimensions * eta:g}", cells[2], f"{bounded:.3f}", *cells[3:]]
        )
    columns = ["n", "eta", "1 - n eta", "inside", "outside, expected"]
    columns += ["outside", "relative L2 error", "surrogate / nuclear norm"]
    levels = "; ".join(
        f"{arm}: " + ", ".join(f"{value:.3f}" for value in results.metric(f"ball/{arm}", "level"))
        for arm in _BALLS
    )
    note = (
        "The domain is a ball of radius 4 (n = 2) or 2 (n = 5), not the whole space: there the "
        "solution outside is n eta / (radius^n - 1), not 0, and inside the same. "
        f"The levels inside, network by network: {levels}."
    )
    return [Table("The unit ball denoised", columns, rows, note)]


def _figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    found = []
    for dimensions in (2, 5):
        lines: dict[str, tuple[Any, Any]] = {}
        for arm, (size, eta, _) in _BALLS.items():
            if size != dimensions:
                continue
            radii = results.stacked(f"ball/{arm}", "radii")[0]
            lines[f"eta {eta}"] = (radii, results.stacked(f"ball/{arm}", "profile"))
            lines[f"eta {eta}, closed form"] = (radii, np.where(radii <= 1, 1 - size * eta, 0.0))
        path = folder / f"profile-n{dimensions}.png"
        caption = f"The unit ball denoised, n = {dimensions}; bands over seeds."
        found.append(curves(lines, path, caption, "norm(x)", "f, mean over directions"))
    exact = results.stacked("linear", "exact")[0]
    numbers = np.arange(len(exact)) + 1
    lines: dict[str, tuple[Any, Any]] = {
        "g after h": (numbers, results.stacked("linear", "singular_values")),
        "closed form": (numbers, exact),
        "of the target": (numbers, results.stacked("linear", "without")[0]),
    }
    path, caption = (
        folder / "singular-values.png",
        f"Linear g and h, eta {_ETA}: soft thresholding.",
    )
    return [*found, curves(lines, path, caption, "number", "singular value")]


_COMMON = (
    "The paper's networks and training were not found; ours: f = g after h, two hidden layers of "
    "relus each, Adam with a cosine schedule, eta raised from 0 over the first 80 % of the steps "
    "(at full weight from the start g and h can collapse to a constant), points uniform in a ball."
)

PAPER = Paper(
    name="scarvelis2024",
    title="Scarvelis and Solomon 2024: the nuclear norm of a Jacobian, by noise alone",
    reference="Scarvelis and Solomon 2024, Nuclear Norm Regularization for Deep Learning",
    scales={
        "quick": f"{_COMMON} Quick: widths of 64, 256 points a step, noise 0.02, 32000 steps. "
        "With 8000 one of five networks collapsed to a constant (n = 5, eta 0.05, and on other "
        "seeds and another jaxlib n = 2, eta 0.25); with 16000 one of five (n = 5, eta 0.01) had "
        "not settled.",
        "full": f"{_COMMON} Full: widths of 256, 2048 points a step, noise 0.01, 40000 "
        "steps for n = 2 and 80000 for n = 5.",
    },
    jobs=_jobs,
    claims=_claims,
    tables=_tables,
    figures=_figures,
    left_out=lambda settings: (
        "Denoising of ImageNet (PSNR 23.10 and 21.05 at sigma 1 and 2, supervised 23.37 and "
        "21.39): its data and networks are no small experiment.",
    ),
)
