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
        for name in members:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                steps, values = zip(*points, strict=True)
                marker = "o" if len(steps) < 10 else None
                axis.plot(steps, values, label=name, marker=marker, markersize=3)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if len(members) > 1:
            axis.legend(fontsize=8)
        if "accuracy" not in title and all(value > 0 for value in _all(lines, members)):
            axis.set_yscale("log")
    return save(figure, path)


def _all(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[float]:
    return [line[name] for line in lines for name in names if line.get(name) is not None]
