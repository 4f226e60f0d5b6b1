"""All vectors of signs: a mean over them is one over Rademacher probes, without chance in it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def all_signs(dimensions: int) -> Float[np.ndarray, "S D"]:
    """Return all 2^D vectors of signs: their mean is the mean over Rademacher slices, exactly."""
    return np.asarray(list(itertools.product((-1.0, 1.0), repeat=dimensions)), np.float32)
