"""What equilibria of test examples took, example by example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import jacreg
from train.parallel import fetch

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from train.batches import Batches
    from train.data import Examples


@dataclass(frozen=True)
class Measured:
    """Values of test examples.

    Attributes:
        values: `[N]` by name: `nfe`, `residual`, `unconverged`, and the score's own.
        radii: spectral radii of the cell's Jacobian at the first equilibria; nan where the
            eigenvalue iteration did not converge.
    """

    values: dict[str, np.ndarray]
    radii: Float[np.ndarray, " K"]

    def metrics(self) -> dict[str, float]:
        """Return means, and for the radii their mean, maximum and the share that was found."""
        found = {name: float(np.mean(value)) for name, value in self.values.items()}
        found["nfe_median"] = float(np.median(self.values["nfe"]))
        reached = self.radii[np.isfinite(self.radii)]
        if self.radii.size:
            found["spectral_radius_found"] = reached.size / self.radii.size
        if reached.size:
            found["spectral_radius"] = float(reached.mean())
            found["spectral_radius_max"] = float(reached.max())
        return {f"test/{name}": value for name, value in found.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a record holds."""
        return {**self.values, "spectral_radius": self.radii}


def make_measure(
    test: Callable[[Any, Any, Any], dict[str, Array]],
    point: Callable[[Any, Any], Any],
    *,
    batches: Batches,
    key: Array,
) -> Callable[[Any, Examples, Examples | None], Measured]:
    """Return `(weights, examples, nearby) -> Measured`.

    Args:
        test: `(weights, inputs, targets) -> {name: [batch]}`, jitted.
        point: `(weights, inputs) -> EquilibriumPoint`, whose cell is linearised for `nearby`.
        key: for the start of the eigenvalue iteration.
    """

    @jax.jit
    def radii(weights: Any, raw: Any) -> Array:
        at = point(weights, raw)
        return jacreg.spectral_radius(jacreg.linearize(at.cell, at.states, mode="forward"), key=key)

    def measure(weights: Any, examples: Examples, nearby: Examples | None) -> Measured:
        tested = [
            (test(weights, inputs, targets), mask)
            for inputs, targets, mask in batches.of(examples, "equilibria")
        ]
        parts = [
            {name: np.asarray(value)[mask] for name, value in found.items()}
            for found, mask in fetch(tested)
        ]
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        found = np.zeros(0) if nearby is None else np.asarray(radii(weights, nearby.inputs))
        return Measured(values, found)

    return measure
