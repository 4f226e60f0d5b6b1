"""Samples, data and learnt density in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from train.figures._draw import pyplot, save


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
