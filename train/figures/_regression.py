"""A fitted function beside the truth: its values and derivatives, or targets and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.figures._draw import pyplot, save


def regression(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw what a regression recorded.

    Args:
        arrays: `points` `[P, D]` with D of 1 or 2 and, for each name of value, jacobian, hessian,
            the network's `[P, 1, ...]` and `true_<name>`; or `targets` and `values`, `[N, K]`.
    """
    if "points" not in arrays:
        figure = _predictions(arrays)
    elif arrays["points"].shape[1] == 1:
        figure = _lines(arrays)
    else:
        figure = _maps(arrays)
    return save(figure, path)


def _lines(arrays: Mapping[str, np.ndarray]) -> Any:
    """Return f, f' and f'' over the line, above their errors."""
    xs = arrays["points"][:, 0]
    names = [("value", "f"), ("jacobian", "f'"), ("hessian", "f''")]
    figure, axes = pyplot().subplots(
        2, 3, figsize=(12, 5), sharex=True, layout="constrained", height_ratios=(2, 1)
    )
    for (name, title), above, below in zip(names, axes[0], axes[1], strict=True):
        ours, truth = arrays[name].ravel(), arrays[f"true_{name}"].ravel()
        above.plot(xs, truth, color="0.6", linewidth=4, label="true")
        above.plot(xs, ours, color="C0", linewidth=1.2, label="network")
        above.set_title(title)
        below.plot(xs, ours - truth, color="C3", linewidth=1)
        below.set_xlabel("x")
        for axis in (above, below):
            axis.grid(alpha=0.3)
    axes[0][0].legend()
    axes[1][0].set_ylabel("error")
    return figure


def _maps(arrays: Mapping[str, np.ndarray]) -> Any:
    """Return f and its two slopes over the plane: true, the network's and the error."""
    points = arrays["points"]
    side = round(len(points) ** 0.5)
    extent = (*(points[:, 0].min(), points[:, 0].max()), *(points[:, 1].min(), points[:, 1].max()))
    rows = [("f", "value", 0), ("df/dx", "jacobian", 0), ("df/dy", "jacobian", 1)]
    plt = pyplot()
    figure, axes = plt.subplots(3, 3, figsize=(9.5, 8.5), layout="constrained")
    for (title, name, part), line in zip(rows, axes, strict=True):
        ours = arrays[name].reshape(len(points), -1)[:, part]
        truth = arrays[f"true_{name}"].reshape(len(points), -1)[:, part]
        panels = [("true", truth), ("network", ours), ("error", ours - truth)]
        for axis, (kind, values) in zip(line, panels, strict=True):
            reach = np.abs(truth if kind != "error" else values).max() or 1.0
            # Points run along y first; a picture's rows are y.
            image = axis.imshow(
                values.reshape(side, side).T,
                origin="lower",
                extent=extent,
                cmap="RdBu",
                vmin=-reach,
                vmax=reach,
            )
            axis.set_title(f"{title}, {kind}", fontsize=10)
            figure.colorbar(image, ax=axis, shrink=0.8)
    return figure


def _predictions(arrays: Mapping[str, np.ndarray]) -> Any:
    """Return each output's predictions against its targets."""
    targets, values = arrays["targets"], arrays["values"]
    count = min(targets.shape[1], 4)
    figure, axes = pyplot().subplots(
        1, count, figsize=(4.2 * count, 4), squeeze=False, layout="constrained"
    )
    for column, axis in enumerate(axes.flat):
        truth, ours = targets[:, column], values[:, column]
        axis.scatter(truth, ours, s=4, alpha=0.5, linewidths=0)
        axis.plot([truth.min(), truth.max()], [truth.min(), truth.max()], color="0.4", linewidth=1)
        axis.set_xlabel("target")
        axis.set_ylabel("prediction")
        axis.set_title(f"output {column + 1}", fontsize=10)
        axis.grid(alpha=0.3)
    return figure
