"""What the solvers of flows and equilibria check of their numbers and of themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any


def check_numbers(solver: Any, who: str, names: Sequence[str], *, whole: bool = False) -> None:
    """Raise unless these attributes of a solver are positive and finite; `whole`: integers.

    Raises:
        TypeError: one is no number, or no integer.
        ValueError: one is not positive and finite.
    """
    for name in names:
        value = getattr(solver, name)
        try:
            number = None if isinstance(value, str) else (index if whole else float)(value)
        except TypeError:
            number = None
        if number is None:
            kind = "an integer" if whole else "a number"
            raise TypeError(f"{name} of {who} must be {kind}, got {value!r}.")
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"{name} of {who} must be positive, got {value}.")


def check_solver(solver: Any, kind: type, example: str) -> None:
    """Raise unless a solver is of its class.

    Raises:
        TypeError: it is not, such as the name of a method alone.
    """
    if not isinstance(solver, kind):
        raise TypeError(f"solver must be of {kind.__name__}, such as {example}, got {solver!r}.")
