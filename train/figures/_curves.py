"""Losses, penalties and test metrics against the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.figures._draw import pyplot, save


def curves(lines: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw losses, penalties and test metrics against the step."""
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition("/")[2] if "penalty/" not in name else name, []).append(
            name
        )
    plt = pyplot()
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis, (title, members) in zip(axes.flat, groups.items(), strict=False):
        seen: list[float] = []
        for name in members:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                steps, values = zip(*points, strict=True)
                marker = "o" if len(steps) < 10 else None
                axis.plot(steps, values, label=name, marker=marker, markersize=3)
                seen += values
        against_steps(axis, title if len(members) > 1 else members[0], seen, lines)
        if len(members) > 1:
            axis.legend(fontsize=8)
    return save(figure, path)


def against_steps(
    axis: Any, title: str, values: Sequence[float], lines: Sequence[Mapping[str, Any]]
) -> None:
    """Give a panel of curves its title and scales.

    Args:
        axis: of the panel.
        title: the metric's name.
        values: all that it shows.
        lines: of metrics, whose steps are those of all panels.
    """
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("step")
    axis.set_xlim(0, 1.02 * max([1, *(line["step"] for line in lines)]))
    axis.grid(alpha=0.3)
    if "accuracy" in title:
        low, high = axis.get_ylim()
        axis.set_ylim(low, min(high, 1.01))
    elif values and min(values) > 0 and max(values) > 10 * min(values):
        axis.set_yscale("log")
