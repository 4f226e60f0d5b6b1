"""Going through examples in batches of one shape: the last one is padded and masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from train.parallel import fetch, place_rows, rows_that_divide

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array, Bool

    from train.data import Examples


@dataclass(frozen=True)
class Batches:
    """How an evaluation goes through examples.

    Attributes:
        size: rows of a batch.
        mesh: the devices that share these, their number rounded up to fit; None for one.
        watch: `(what, done, total)`, told what is measured and on how many examples it has been.
    """

    size: int
    mesh: Mesh | None = None
    watch: Callable[[str, int, int], None] = lambda what, done, total: None

    def of(
        self, examples: Examples, what: str
    ) -> Iterator[tuple[np.ndarray, Any, Bool[np.ndarray, " batch"]]]:
        """Yield `(inputs, targets, mask)`, all of one size; the mask is False on padding.

        Args:
            what: is measured on them, for who watches; a batch is done when the next is asked for.
        """
        size = rows_that_divide(min(self.size, len(examples)), self.mesh)
        for start in range(0, len(examples), size):
            self.watch(what, start, len(examples))
            rows = np.arange(start, start + size)
            mask = rows < len(examples)
            batch = examples.take(np.where(mask, rows, 0))
            yield *place_rows((batch.inputs, batch.targets), self.mesh), mask
        self.watch(what, len(examples), len(examples))

    def mean(
        self,
        measure: Callable[[Any, Any, int], dict[str, Array]],
        examples: Examples,
        what: str,
    ) -> dict[str, float]:
        """Return the mean over all examples of each per-example value that `measure` gives.

        Args:
            measure: `(inputs, targets, batch number) -> {name: [batch]}`, jitted.
        """
        sums: dict[str, float] = {}

        def add(values: dict[str, Array], mask: Bool[np.ndarray, " batch"]) -> None:
            for name, value in fetch(values).items():
                total = float(np.sum(np.asarray(value, np.float64)[mask]))
                sums[name] = sums.get(name, 0.0) + total

        pending: tuple[dict[str, Array], Any] | None = None
        for number, (inputs, targets, mask) in enumerate(self.of(examples, what)):
            measured = measure(inputs, targets, number)
            if pending is not None:  # one batch is computed while the next is made ready
                add(*pending)
            pending = measured, mask
        if pending is not None:
            add(*pending)
        return {name: total / len(examples) for name, total in sums.items()}
