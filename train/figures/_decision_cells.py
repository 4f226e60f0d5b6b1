"""Decision cells on a plane through three test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from train.figures._draw import pyplot, save


def decision_cells(runs: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw the decision cells of one model or of several side by side.

    Args:
        runs: title to the record that `evaluation.decision_cells` made.
        path: the PNG to write.
    """
    plt = pyplot()
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
    return save(figure, path)
