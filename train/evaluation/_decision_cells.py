"""The decision cells of Hoffman et al. 2019: a plane through three images, coloured by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from train.data import Examples
    from train.evaluation._classifier import Classifier


# How far the square goes beyond the triangle, in units of its extent.
_MARGIN = 0.6


def plane(
    corners: Float[np.ndarray, "3 *in"], resolution: int
) -> tuple[Float[np.ndarray, "points *in"], Float[np.ndarray, "3 2"], tuple[float, ...]]:
    """Return a square grid of points in the plane through three images.

    Args:
        resolution: points along a side.

    Returns:
        The points row by row from the bottom, the corners' coordinates in an orthonormal
        basis of the plane, and the extent (left, right, bottom, top).
    """
    flat = corners.reshape(3, -1).astype(np.float64)
    origin, sides = flat[0], (flat[1:] - flat[0]).T
    basis, coordinates = np.linalg.qr(sides)
    spots = np.concatenate([np.zeros((1, 2)), coordinates.T])
    center = (spots.min(0) + spots.max(0)) / 2
    half = (spots.max(0) - spots.min(0)).max() * (0.5 + _MARGIN)
    line = np.linspace(-half, half, resolution)
    across, up = np.meshgrid(center[0] + line, center[1] + line)
    points = origin + np.stack([across.ravel(), up.ravel()], 1) @ basis.T
    extent = (center[0] - half, center[0] + half, center[1] - half, center[1] + half)
    return points.reshape(-1, *corners.shape[1:]).astype(np.float32), spots, extent


def decision_cells(
    logits: Callable[[Any], Any],
    corners: Float[np.ndarray, "3 *in"],
    resolution: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Return what the model says at each point of the plane, as a record for the picture.

    Args:
        logits: pixels `[batch, *in]` to `[batch, classes]`.
        corners: three images in pixel units.
        resolution: points along a side.
        batch_size: points a call.

    Returns:
        `classes` and `log_probabilities` over the grid, `images` (the corners), their places
        `corners` in the plane, and its `extent`.
    """
    points, spots, extent = plane(corners, resolution)
    found: list[Float[np.ndarray, "batch classes"]] = []
    for start in range(0, len(points), batch_size):
        batch = points[start : start + batch_size]
        short = batch_size - len(batch)
        padded = np.concatenate([batch, np.zeros((short, *batch.shape[1:]), batch.dtype)])
        found.append(np.asarray(logits(padded), np.float64)[: len(batch)])
    scores = np.concatenate(found).reshape(resolution, resolution, -1)
    scores = scores - scores.max(-1, keepdims=True)
    scores = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return {
        "classes": scores.argmax(-1).astype(np.int32),
        "log_probabilities": scores.astype(np.float32),
        "images": np.asarray(corners),
        "corners": spots,
        "extent": np.asarray(extent),
    }


def cells_of_a_classifier(
    model: Classifier,
    weights: Any,
    examples: Examples,
    classes: Sequence[str],
    resolution: int,
    batch_size: int,
    axes: Sequence[int] | None = None,
) -> dict[str, np.ndarray] | None:
    """Return the cells through the first examples of three classes, with `labels` and `names`.

    Args:
        examples: in the order of axes that the model takes.
        axes: that order as positions in N, H, W, C; None where it is that.

    Returns:
        The record, its images channels last; None where there are no three classes.
    """
    targets = np.asarray(examples.targets)
    rows = three_classes(targets)
    if len(rows) < 3:
        return None

    @jax.jit
    def logits(points: Any) -> Any:
        return model.of_pixels(weights, points)

    corners = np.asarray(model.pixels(examples.inputs[rows]))
    cells = decision_cells(logits, corners, resolution, batch_size)
    if axes is not None:
        cells["images"] = np.transpose(cells["images"], np.argsort(axes))
    return {**cells, "labels": targets[rows], "names": np.asarray(classes)}


def three_classes(labels: Int[np.ndarray, " N"]) -> list[int]:
    """Return the first row and the next two of further classes: the corners of the plane."""
    chosen: list[int] = []
    for row, label in enumerate(labels):
        if all(labels[each] != label for each in chosen):
            chosen.append(row)
        if len(chosen) == 3:
            break
    return chosen
