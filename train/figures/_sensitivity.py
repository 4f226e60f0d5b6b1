"""Sensitivity maps, the Jacobian of a class as an image, and spectra of Jacobians."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.figures._draw import pyplot, save


def sensitivity(runs: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw test images and, for each run, d logit of the true class / d image.

    All maps share one colour scale, so that a flatter network is paler.

    Args:
        runs: title to the record that `evaluation.sensitivity` made, with images.
    """
    plt = pyplot()
    first = next(iter(runs.values()))
    maps = {title: record["maps"].mean(axis=-1) for title, record in runs.items()}
    # The few strongest pixels must not hide the rest.
    reach = max(float(np.percentile(np.abs(each), 99.5)) for each in maps.values()) or 1.0
    count = min(len(each) for each in maps.values())
    height, width = first["images"].shape[1:3]
    tall = 1.5 * min(height / width, 4) + 0.1
    figure, axes = plt.subplots(
        1 + len(runs), count, squeeze=False, layout="constrained",
        figsize=(1.5 * count + 1.2, tall * (1 + len(runs)) + 0.3),
    )  # fmt: skip
    for column in range(count):
        pixels = np.clip(first["images"][column], 0, 1)
        gray = {} if pixels.shape[-1] == 3 else {"cmap": "gray", "vmin": 0, "vmax": 1}
        axes[0][column].imshow(pixels if not gray else pixels[..., 0], **gray)
        axes[0][column].set_title(str(first["names"][int(first["labels"][column])]), fontsize=9)
    shown: Any = None
    for row, (title, each) in zip(axes[1:], maps.items(), strict=True):
        for axis, values in zip(row, each, strict=False):
            shown = axis.imshow(values, cmap="RdBu", vmin=-reach, vmax=reach)
        row[0].set_ylabel(title or "Jacobian", fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(shown, ax=axes[1:].ravel().tolist(), shrink=0.8, label="d logit / d input")
    return save(figure, path)


def spectra(runs: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw the singular values of Jacobians: their mean over examples, and the middle 80 %.

    Args:
        runs: title to a record with `singular_values` `[E, K]`.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 4), layout="constrained")
    floor = 1e-6 * max(float(np.max(record["singular_values"])) for record in runs.values())
    for number, (title, record) in enumerate(runs.items()):
        values = np.maximum(record["singular_values"], floor)
        places = np.arange(1, values.shape[1] + 1)
        low, high = np.percentile(values, [10, 90], axis=0)
        color = f"C{number % 10}"
        axis.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
        axis.plot(places, values.mean(axis=0), "o-", color=color, markersize=3, label=title)
    axis.set_yscale("log")
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("number of the singular value")
    axis.set_ylabel("singular values of d logits / d input")
    axis.grid(alpha=0.3)
    if any(runs):
        axis.legend(fontsize=8)
    return save(figure, path)
