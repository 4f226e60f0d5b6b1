"""Figures, drawn from the records of runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train import records

CELLS = Path("figures") / "decision_cells.npz"


def draw_run(workdir: Path) -> list[Path]:
    """Draw a run's figures from its records; return the files."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    drawn = []
    lines = records.MetricsLog(workdir / records.METRICS).read()
    if lines:
        drawn.append(curves(lines, folder / "curves.png"))
    if (workdir / CELLS).exists():
        cells = records.read_arrays(workdir / CELLS)
        drawn.append(decision_cells({"": cells}, folder / "decision_cells.png"))
    return drawn


def curves(lines: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw losses, penalties and test metrics against the step."""
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition("/")[2] if "penalty/" not in name else name, []).append(
            name
        )
    plt = _pyplot()
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
    return _save(figure, path)


def _all(lines: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[float]:
    return [line[name] for line in lines for name in names if line.get(name) is not None]


def decision_cells(runs: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw the decision cells of one model or of several side by side.

    Args:
        runs: title to the record that `evaluation.decision_cells` made.
        path: the PNG to write.
    """
    plt = _pyplot()
    names = [str(name) for name in next(iter(runs.values()))["names"]]
    shown = sorted(
        {int(label) for record in runs.values() for label in np.unique(record["classes"])}
    )
    palette = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.4 * len(runs) + 0.9, 4.6), squeeze=False, layout="constrained"
    )
    for axis, (title, record) in zip(axes.flat, runs.items(), strict=True):
        colors = palette(record["classes"] % palette.N)[..., :3]
        axis.imshow(colors, origin="lower", extent=record["extent"], interpolation="nearest")
        for (across, up), label in zip(record["corners"], record["labels"], strict=True):
            axis.plot(across, up, "o", color="white", markeredgecolor="black", markersize=7)
            axis.annotate(
                names[int(label)],
                (across, up),
                xytext=(6, 6),
                textcoords="offset points",
                color="white",
                fontweight="bold",
            )
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    handles = [
        plt.Line2D([], [], marker="s", linestyle="", color=palette(label % palette.N))
        for label in shown
    ]
    labels = [names[label] for label in shown]
    figure.legend(handles, labels, loc="outside right center", title="class", frameon=False)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format="png", bbox_inches="tight")
    temporary.replace(path)
    _pyplot().close(figure)
    return path


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
