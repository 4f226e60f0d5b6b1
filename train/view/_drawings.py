"""Pictures that compare runs: curves against the step, and accuracy against what perturbs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.figures import against_steps, panels, plotted, pyplot, save
from train.view._read import Run

_PERTURBED = re.compile(r"test/accuracy_([a-z_]+?)_([0-9.e+-]+)$")
# What perturbs, and what its scale is.
_WORDS = {
    "noise": ("white noise", "standard deviation"),
    "fgsm": ("FGSM", "l∞ distance"),
    "pgd": ("PGD", "l∞ distance"),
}


def compared_curves(runs: Sequence[Run], path: Path) -> Path | None:
    """Draw every logged metric against the step, a panel a metric, a line a run."""
    names = dict.fromkeys(
        name for run in runs for line in run.lines for name, value in line.items()
        if name != "step" and value is not None
    )  # fmt: skip
    if not names:
        return None
    figure, axes = panels(len(names), 2.6, 0.4)
    for axis, name in zip(axes, names, strict=True):
        seen: list[float] = []
        for number, run in enumerate(runs):
            seen += plotted(axis, run.lines, name, color=_color(number))
        against_steps(axis, name, seen, [line for run in runs for line in run.lines])
    _legend(figure, pyplot(), runs)
    return save(figure, path)


def perturbed_accuracy(runs: Sequence[Run], path: Path) -> Path | None:
    """Draw accuracy against the scale of noise and attacks, a panel a kind, a line a run."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for number, run in enumerate(runs):
        metrics = run.summary.get("metrics") or {}
        for name, value in metrics.items():
            match = _PERTURBED.match(name)
            if match and value is not None:
                points = found.setdefault(match[1], {}).setdefault(number, [])
                points.append((float(match[2]), value))
    if not found:
        return None
    plt = pyplot()
    figure, axes = plt.subplots(
        1, len(found), squeeze=False, layout="constrained", sharey=True,
        figsize=(3.6 * len(found) + 0.6, 3.6),
    )  # fmt: skip
    for axis, (kind, lines) in zip(axes.flat, found.items(), strict=True):
        for number, points in lines.items():
            clean = (runs[number].summary.get("metrics") or {}).get("test/accuracy")
            whole = sorted(points if clean is None else [(0.0, clean), *points])
            scales, values = zip(*whole, strict=True)
            axis.plot(scales, [100 * value for value in values], "o-", color=_color(number))
        title, scale = _WORDS.get(kind, (kind, "scale"))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(scale)
        axis.set_ylim(0, 102)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("test accuracy, %")
    _legend(figure, plt, runs)
    return save(figure, path)


def _color(number: int) -> str:
    return f"C{number % 10}"


def _legend(figure: Any, plt: Any, runs: Sequence[Run]) -> None:
    if len(runs) > 1:
        lines = [plt.Line2D([], [], color=_color(number)) for number in range(len(runs))]
        figure.legend(
            lines, [run.title for run in runs], loc="outside lower center", frameon=False,
            fontsize=9, ncols=min(len(runs), 4),
        )  # fmt: skip
