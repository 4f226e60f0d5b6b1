"""The Jacobian of a classifier to look at: a class's gradient as an image, and its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import jacreg
from train.evaluation._classifier import Classifier

if TYPE_CHECKING:
    from train.data import Examples

# Dense Jacobians that are in memory at once, and all in all.
_CHUNK, _MOST_SPECTRA, _MOST_IMAGES = 20, 100, 6


def sensitivity(
    model: Classifier, weights: Any, examples: Examples, axes: Sequence[int] | None
) -> dict[str, np.ndarray]:
    """Return the record of a trained classifier's Jacobians at its first test examples.

    Args:
        examples: of the test split, in the order of axes that the model takes.
        axes: that order as positions in N, H, W, C; None where it is that.

    Returns:
        `singular_values` `[E, K]`, falling, of d logits / d model input at the first E examples.
        For images also `images` and `maps` `[I, H, W, C]` of the first example of each class, in
        pixels, where a map is d logit of the true class / d model input, and their `labels`.
    """

    @jax.jit
    def jacobians(weights: Any, raw: Any) -> Any:
        xs = model.normalize(model.pixels(raw))
        lin = jacreg.linearize(partial(model.logits, weights), xs, mode="reverse")
        return jacreg.jacobian(lin)

    count = min(len(examples), _MOST_SPECTRA)
    rows, found = np.arange(count), []
    for start in range(0, count, _CHUNK):
        # One shape for all: the last chunk begins earlier.
        first = max(0, min(start, count - _CHUNK))
        matrices = np.asarray(jacobians(weights, examples.inputs[rows[first : first + _CHUNK]]))
        found.append(matrices.reshape(*matrices.shape[:2], -1)[start - first :])
    values = np.linalg.svd(np.concatenate(found), compute_uv=False)
    record = {"singular_values": values.astype(np.float32)}
    back = (0, 1, 2, 3) if axes is None else np.argsort(axes)
    if np.ndim(examples.inputs) != 4 or examples.inputs.shape[back[3]] not in (1, 3):
        return record
    labels = np.asarray(examples.targets)
    _, firsts = np.unique(labels, return_index=True)
    chosen = np.sort(firsts)[:_MOST_IMAGES]
    # In the shape of the other calls, so that nothing is compiled again.
    padded = np.resize(chosen, max(len(chosen), min(count, _CHUNK)))
    maps = np.asarray(jacobians(weights, examples.inputs[padded]))
    maps = maps[np.arange(len(chosen)), labels[chosen]]
    images = np.asarray(model.pixels(examples.inputs[chosen]))
    return record | {
        "images": np.transpose(images, back).astype(np.float32),
        "maps": np.transpose(maps, back).astype(np.float32),
        "labels": labels[chosen],
    }
