"""How many evaluations the equilibria of test examples took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from train.figures._draw import pyplot, save


def evaluations(runs: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw the distribution of NFE, of residuals and of spectral radii, of one run or several.

    Args:
        runs: title to the record of the task `equilibrium`.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    most = max(int(np.max(record["nfe"])) for record in runs.values())
    bins = np.arange(0.5, most + 1.5)
    residuals = np.concatenate([_positive(record["residual"]) for record in runs.values()])
    lost = sum(int(np.sum(~np.isfinite(record["residual"]))) for record in runs.values())
    # Twenty bins a decade, with an edge at the first run's tolerance.
    tolerances = [float(record["tolerance"]) for record in runs.values()]
    residuals = residuals if len(residuals) else np.asarray(tolerances)
    first, last = 20 * np.log10([residuals.min() / tolerances[0], residuals.max() / tolerances[0]])
    edges = tolerances[0] * 10 ** (np.arange(np.floor(first), np.ceil(last) + 1.5) / 20)
    for number, (title, record) in enumerate(runs.items()):
        mean, share = np.mean(record["nfe"]), np.mean(record["unconverged"])
        words = f"mean {mean:.1f}" + (f", {share:.1%} unconverged" if share else "")
        style = {"color": f"C{number}", "alpha": 0.5, "label": f"{title}  {words}".strip()}
        axes[0].hist(record["nfe"], bins, density=True, **style)
        axes[0].axvline(mean, color=f"C{number}", linestyle="--")
        axes[1].hist(_positive(record["residual"]), edges, **style)
        _spread(axes[2], number, record["spectral_radius"], f"C{number}")
    for tolerance in set(tolerances):
        axes[1].axvline(tolerance, color=plt.rcParams["text.color"], linestyle=":")
    axes[0].set(xlabel="evaluations of the cell (NFE)", ylabel="share of test examples")
    axes[0].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    axes[1].set(xlabel="last relative residual (dotted: tolerance)", ylabel="test examples")
    axes[1].set_xscale("log")
    if lost:
        axes[1].set_title(f"{lost} not finite, left out", fontsize=8)
    axes[2].axhline(1, color=plt.rcParams["text.color"], linestyle=":")
    axes[2].set(ylabel="spectral radius at z*")
    axes[2].set_xticks(range(len(runs)), [title or "test" for title in runs], fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    return save(figure, path)


def _positive(residuals: np.ndarray) -> np.ndarray:
    """Return the finite residuals, one of exactly 0 as the smallest that a log axis should show."""
    return np.maximum(residuals[np.isfinite(residuals)], 1e-12)


def _spread(axis, place: int, radii: np.ndarray, color) -> None:
    """Draw one dot a radius, side by side where there are several."""
    found = np.sort(radii[np.isfinite(radii)])
    offsets = np.linspace(-0.2, 0.2, len(found)) if len(found) > 1 else np.zeros(len(found))
    axis.plot(place + offsets, found, "o", color=color, markersize=4)
    missing = len(radii) - len(found)
    if missing:
        axis.annotate(f"{missing} not found", (place, 1), fontsize=8, ha="center")
