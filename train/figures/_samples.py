"""Samples of a learnt density, and in the plane the density itself or its score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.figures._draw import pyplot, save

_COLUMNS = 8
_MOST_ROWS = 8


def samples(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw samples beside examples of the data: images, or the first two coordinates of vectors.

    Args:
        arrays: `samples` and `examples`, `[N, H, W, C]` in pixels [0, 1], or `[N, D]`.
    """
    panels = [("samples", arrays["samples"]), ("data", arrays["examples"])]
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), squeeze=False, layout="constrained")
    for axis, (title, rows) in zip(axes.flat, panels, strict=True):
        if rows.ndim == 4:
            _show_images(axis, rows)
        else:
            across, up = rows[:, 0], rows[:, min(1, rows.shape[1] - 1)]
            axis.scatter(across, up, s=3, alpha=0.6, linewidths=0)
        axis.set_title(title)
    if panels[0][1].ndim == 2:
        # One outlier must not hide the rest, so the data set the scale.
        _same_limits(axes.flat, arrays["examples"])
    return save(figure, path)


def _show_images(axis: Any, images: np.ndarray) -> None:
    shown = np.clip(images[: _COLUMNS * _MOST_ROWS], 0, 1)
    rows = -(-len(shown) // _COLUMNS)
    height, width, channels = shown.shape[1:]
    sheet = np.ones((rows * (height + 2), _COLUMNS * (width + 2), channels))
    for number, image in enumerate(shown):
        top, left = (number // _COLUMNS) * (height + 2), (number % _COLUMNS) * (width + 2)
        sheet[top : top + height, left : left + width] = image
    if channels in (3, 4):
        axis.imshow(sheet, interpolation="nearest")
    else:
        axis.imshow(sheet[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()


def score_field(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw a score in the plane over the data, beside the true one and beside samples.

    Args:
        arrays: `points` `[N, 2]`, `grid` and `field` `[G, 2]`; `truth` `[G, 2]` where it is known,
            `samples` `[S, 2]` where they were drawn.
    """
    points, grid = arrays["points"], arrays["grid"]
    fields = [("learnt score", arrays["field"])]
    if "truth" in arrays:
        fields.append(("true score", arrays["truth"]))
    count = len(fields) + ("samples" in arrays)
    plt = pyplot()
    figure, axes = plt.subplots(
        1, count, figsize=(4.6 * count, 4.6), squeeze=False, layout="constrained"
    )
    # Far from the data scores are long: arrows show the direction, their colour the length.
    lengths = [np.linalg.norm(values, axis=1) for _, values in fields]
    most = max(float(np.percentile(length, 95)) for length in lengths) or 1.0
    arrows = None
    for axis, (title, values), length in zip(axes.flat, fields, lengths, strict=False):
        axis.scatter(*points.T, s=2, color="0.75", linewidths=0)
        unit = values / np.maximum(length, 1e-12)[:, None]
        arrows = axis.quiver(
            *grid.T, *unit.T, length, cmap="viridis", clim=(0, most), angles="xy", scale=30
        )
        axis.set_title(title)
    figure.colorbar(arrows, ax=axes.flat[len(fields) - 1], shrink=0.7, label="norm of the score")
    if "samples" in arrays:
        last = axes.flat[-1]
        last.scatter(*points.T, s=2, color="0.75", linewidths=0, label="data")
        last.scatter(*arrays["samples"].T, s=3, color="C3", linewidths=0, label="samples")
        last.legend(loc="upper right", fontsize=8, markerscale=3)
        last.set_title("samples")
    for axis in axes.flat:
        axis.set_aspect("equal")
    _same_limits(axes.flat, grid)
    return save(figure, path)


def _same_limits(axes: Any, rows: np.ndarray) -> None:
    across, up = rows[:, 0], rows[:, min(1, rows.shape[1] - 1)]
    for axis in axes:
        for set_limits, values in ((axis.set_xlim, across), (axis.set_ylim, up)):
            margin = 0.05 * (float(np.ptp(values)) or 1.0)
            set_limits(values.min() - margin, values.max() + margin)


def density(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw samples, data and density side by side, on the data's extent.

    Args:
        arrays: `samples` and `examples`, `[N, 2]`, `density` `[G, G]` with rows from below,
            and its `extent` (left, right, bottom, top).
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12.6, 4.2), layout="constrained")
    for axis, name, title in zip(axes, ("samples", "examples"), ("samples", "data"), strict=False):
        axis.scatter(*arrays[name].T, s=3, alpha=0.5, linewidths=0)
        axis.set_title(title)
    values = np.nan_to_num(arrays["density"])
    # A few sharp peaks must not darken the rest.
    most = float(np.percentile(values[values > 0.01 * values.max()], 98)) if values.any() else 1.0
    image = axes[2].imshow(
        values, origin="lower", extent=arrays["extent"], vmin=0, vmax=most, cmap="viridis"
    )
    axes[2].set_title("density")
    figure.colorbar(image, ax=axes[2], shrink=0.8)
    low, high = arrays["examples"].min(0), arrays["examples"].max(0)
    margin = 0.1 * (high - low)
    for axis in axes:
        axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axis.set_ylim(low[1] - margin[1], high[1] + margin[1])
        axis.set_aspect("equal")
    return save(figure, path)
