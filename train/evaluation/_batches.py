"""Evaluation in batches of one shape: the last one is padded and masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from train.parallel import fetch, place_rows, rows_that_divide

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array, Bool

    from train.data import Examples


def padded_batches(
    examples: Examples, batch_size: int, mesh: Mesh | None = None
) -> Iterator[tuple[np.ndarray, Any, Bool[np.ndarray, " batch"]]]:
    """Yield `(inputs, targets, mask)`, all of `batch_size` rows; the mask is False on padding.

    On the devices of a mesh the rows lie spread over them, their number rounded up to fit.
    """
    size = rows_that_divide(min(batch_size, len(examples)), mesh)
    for start in range(0, len(examples), size):
        rows = np.arange(start, start + size)
        mask = rows < len(examples)
        batch = examples.take(np.where(mask, rows, 0))
        yield *place_rows((batch.inputs, batch.targets), mesh), mask


def masked_mean(
    measure: Callable[[Any, Any, Any], dict[str, Array]],
    examples: Examples,
    batch_size: int,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """Return the mean over all examples of each per-example value that `measure` gives.

    Args:
        measure: `(inputs, targets, batch number) -> {name: [batch]}`, jitted.
        examples: what to average over.
        batch_size: rows a call.
        mesh: the devices that share these rows.
    """
    sums: dict[str, float] = {}
    values = []
    for number, (inputs, targets, mask) in enumerate(padded_batches(examples, batch_size, mesh)):
        values.append((measure(inputs, targets, number), mask))
    for batch, mask in fetch(values):
        for name, value in batch.items():
            total = float(np.sum(np.asarray(value, np.float64)[mask]))
            sums[name] = sums.get(name, 0.0) + total
    return {name: total / len(examples) for name, total in sums.items()}
