"""Decision cells on a plane through three test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.figures._draw import CLASSES, pyplot, save

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_FINER = 4  # how many pixels of the picture along one step of the record's grid
_LEAST_SEEN = 1e-3  # of a panel, below which a class is not in the legend
_PALEST = 0.3  # what is left of a class's colour where the model cannot tell


def decision_cells(runs: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw the decision cells of one model or of several side by side.

    A cell has its class's colour, paler where the model is less sure; the images stand at their
    places. The borders are those of the scores interpolated between the points of the grid.

    Args:
        runs: title to the record that `evaluation.decision_cells` made.
    """
    plt = pyplot()
    names = [str(name) for name in next(iter(runs.values()))["names"]]
    shown: set[int] = set()
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.4 * len(runs) + 0.9, 4.6), squeeze=False, layout="constrained"
    )
    for axis, (title, record) in zip(axes.flat, runs.items(), strict=True):
        scores = _finer(_log_probabilities(record, len(names)))
        classes = scores.argmax(-1)
        seen, counts = np.unique(classes, return_counts=True)
        shown |= set(seen[counts >= _LEAST_SEEN * classes.size].tolist())
        axis.imshow(
            _shaded(scores, classes),
            origin="lower",
            extent=record["extent"],
            interpolation="antialiased",
        )
        _borders(axis, scores, record["extent"])
        _corners(axis, record, names)
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
    handles = [
        plt.Line2D([], [], marker="s", linestyle="", markersize=9, color=_color(label))
        for label in sorted(shown)
    ]
    labels = [names[label] for label in sorted(shown)]
    figure.legend(
        handles, labels, loc="outside right center", title="predicted\n(pale: unsure)"
    ).get_title().set_multialignment("center")
    return save(figure, path)


def _color(label: int) -> str:
    return CLASSES[label % len(CLASSES)]


def _log_probabilities(
    record: Mapping[str, np.ndarray], num_classes: int
) -> Float[np.ndarray, "rows columns classes"]:
    if "log_probabilities" in record:
        return record["log_probabilities"].astype(np.float64)
    # A record of an earlier version holds the classes alone: sure everywhere.
    return 8.0 * np.eye(num_classes)[record["classes"]]


def _finer(scores: Float[np.ndarray, "rows columns classes"]) -> Float[np.ndarray, "R C classes"]:
    from scipy.ndimage import zoom

    return np.asarray(zoom(scores, (_FINER, _FINER, 1), order=1, grid_mode=True, mode="nearest"))


def _shaded(
    scores: Float[np.ndarray, "R C classes"], classes: Int[np.ndarray, "R C"]
) -> Float[np.ndarray, "R C 3"]:
    from matplotlib.colors import to_rgb

    palette = np.array([to_rgb(_color(label)) for label in range(scores.shape[-1])])
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    sure = 1 / exponentials.sum(-1)
    least = 1 / scores.shape[-1]
    strength = _PALEST + (1 - _PALEST) * (sure - least) / (1 - least)
    return 1 - strength[..., None] * (1 - palette[classes])


def _borders(axis: Any, scores: Float[np.ndarray, "R C classes"], extent: Any) -> None:
    """Lines where two classes are equally likely."""
    for label in np.unique(scores.argmax(-1)):
        others = np.delete(scores, label, axis=-1).max(-1)
        axis.contour(
            scores[..., label] - others,
            levels=[0.0],
            extent=extent,
            origin="lower",
            colors="white",
            linewidths=0.9,
        )


def _are_pictures(images: np.ndarray) -> bool:
    """Return whether arrays can be shown: grey `[N, H, W]`, or with 1 or 3 channels at the end."""
    return images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))


def _corners(axis: Any, record: Mapping[str, np.ndarray], names: list[str]) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    images = record.get("images")
    for number, (across, up) in enumerate(record["corners"]):
        name = names[int(record["labels"][number])]
        if images is None or not _are_pictures(images):
            axis.plot(across, up, "o", color="white", markeredgecolor="black", markersize=7)
            axis.annotate(
                name, (across, up), xytext=(6, 6), textcoords="offset points", fontweight="bold"
            )
            continue
        image = np.clip(images[number], 0, 1)
        if image.ndim == 2 or image.shape[-1] == 1:  # grey, on the whole range from black to white
            image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=-1)
        box = OffsetImage(image, zoom=38 / max(image.shape[:2]))
        box.image.axes = axis
        frame = {"edgecolor": "white", "linewidth": 1.2, "boxstyle": "square,pad=0.05"}
        axis.add_artist(AnnotationBbox(box, (across, up), bboxprops=frame, pad=0.0))
