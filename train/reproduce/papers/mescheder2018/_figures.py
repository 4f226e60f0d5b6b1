"""The two pictures: paths in the plane of both players, and eigenvalues over gamma."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.figures import pyplot, save
from train.reproduce import Results
from train.reproduce.papers.mescheder2018._dirac import (
    CRITICAL,
    GAMMAS,
    STEP,
    derived,
    predicted_rates,
)


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw both; return their names and captions."""
    _paths(results, folder / "paths.png")
    _eigenvalues(results, folder / "eigenvalues.png")
    return [
        (
            "paths.png",
            f"Gradient descent from every seed's start (dots), steps of {STEP:g}; the "
            "equilibrium is the cross.",
        ),
        (
            "eigenvalues.png",
            "Left: eigenvalues of the field's Jacobian at the equilibrium over gamma, dots by "
            "jacreg, the line derived. Right: rate of simultaneous descent a step, every seed a "
            "dot, the line derived.",
        ),
    ]


def _paths(results: Results, path: Path) -> None:
    arrays = results.all_arrays("paths")
    panels = {
        "no penalty, simultaneous": [found["regularised"][:, 0] for found in arrays],
        "no penalty, alternating": [found["circle"] for found in arrays],
        "R1, gamma = 0.5": [found["regularised"][:, 1] for found in arrays],
        "R1, gamma = 1 (critical)": [found["regularised"][:, 2] for found in arrays],
        "R1, gamma = 2": [found["regularised"][:, 3] for found in arrays],
    }
    figure, axes = pyplot().subplots(
        1, len(panels), figsize=(13.5, 3.2), sharex=True, sharey=True, layout="constrained"
    )
    for axis, (title, walks) in zip(axes, panels.items(), strict=True):
        for number, walk in enumerate(walks):
            axis.plot(walk[:, 0], walk[:, 1], color=f"C{number % 6}", lw=0.9)
            axis.plot(*walk[0], "o", color=f"C{number % 6}", ms=4)
        axis.plot(0, 0, "kx", ms=7, zorder=5)
        axis.set_title(title)
        axis.set_xlabel("generator theta")
        axis.set_aspect("equal")
    axes[0].set_ylabel("discriminator psi")
    save(figure, path)


def _eigenvalues(results: Results, path: Path) -> None:
    found = results.arrays("eigenvalues", 0)
    figure, (plane, rates) = pyplot().subplots(1, 2, figsize=(10.5, 3.8), layout="constrained")
    fine = np.linspace(0, GAMMAS[-1], 2001)
    for column in derived(fine).T:
        plane.plot(column.real, column.imag, color="0.6", lw=1, zorder=1)
    gammas = np.repeat(np.asarray(GAMMAS)[:, None], 2, axis=1)
    dots: Any = plane.scatter(found["real"], found["imaginary"], c=gammas, s=22, zorder=2)
    figure.colorbar(dots, ax=plane, label="gamma")
    plane.axvline(0, color="k", lw=0.8)
    plane.set_xlabel("real part")
    plane.set_ylabel("imaginary part")

    for number, each in enumerate(results.all_arrays("paths")):
        rates.plot(GAMMAS, each["rates"], ".", color="C0", label=None if number else "a seed")
    rates.plot(
        fine, predicted_rates(fine), color="C1", lw=1.2, zorder=1, label="-log max |1 + h lambda|"
    )
    rates.axvline(CRITICAL, color="0.6", ls="--", lw=1, label="gamma = 2 f'(0)")
    rates.set_xlabel("gamma")
    rates.set_ylabel("rate a step")
    rates.legend()
    save(figure, path)
