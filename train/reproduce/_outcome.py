"""How a claim that does not hold misses: as a whole, or because its seeds do not tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

HELD, UNDECIDED, MISSED = "held", "undecided", "not held"


def outcome(record: Mapping[str, Any]) -> str:
    """Return "held", "undecided" where the interval crosses a bound, else "not held".

    Args:
        record: of a claim, as `claims.json` has it.
    """
    if record["holds"]:
        return HELD
    low, high = record["interval"]
    if not (_is_finite(low) and _is_finite(high)):
        return MISSED
    above, below = _region(record)
    return UNDECIDED if low < below and high > above else MISSED


def seeds_inside(record: Mapping[str, Any]) -> str:
    """Return how many of a claim's seeds lie in its region, in words; "" without seeds."""
    values = record["values"]
    if len(values) < 2:
        return ""
    above, below = _region(record)
    inside = sum(above < value < below for value in values if _is_finite(value))
    return f"{inside} of {len(values)} seeds inside"


def _region(record: Mapping[str, Any]) -> tuple[float, float]:
    above, below = record["expected"]
    return (-math.inf if above is None else above, math.inf if below is None else below)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
