"""Losses, penalties and test metrics against the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.figures._draw import pyplot, save
from train.records import series


def curves(lines: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw losses, penalties and test metrics against the step."""
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition("/")[2] if "penalty/" not in name else name, []).append(
            name
        )
    figure, axes = panels(len(groups), 2.8)
    for axis, (title, members) in zip(axes, groups.items(), strict=True):
        seen = [value for name in members for value in plotted(axis, lines, name, label=name)]
        against_steps(axis, title if len(members) > 1 else members[0], seen, lines)
        if len(members) > 1:
            axis.legend(fontsize=8)
    return save(figure, path)


def panels(count: int, height: float, more: float = 0.0) -> tuple[Any, list[Any]]:
    """Return a figure of so many panels, three in a row of this height, and `more` below."""
    columns = min(3, count)
    rows = -(-count // columns)
    size = (4 * columns, height * rows + more)
    figure, axes = pyplot().subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def plotted(axis: Any, lines: Sequence[Mapping[str, Any]], name: str, **style: Any) -> list[float]:
    """Draw a metric of a log against the step, where it has it; return the values."""
    steps, values = series(lines, name)
    if steps:
        axis.plot(steps, values, marker="o" if len(steps) < 10 else None, markersize=3, **style)
    return values


def against_steps(
    axis: Any, title: str, values: Sequence[float], lines: Sequence[Mapping[str, Any]]
) -> None:
    """Give a panel of curves its title and scales.

    Args:
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
