"""What is checked of a number or a solver that a user gives: one message a fault."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np


def check_count(who: str, name: str, value: Any, *, least: int = 1) -> None:
    """Raise unless `value` is an integer, Python's or NumPy's, from `least` to 32 bits.

    Raises:
        TypeError: it is no integer.
        ValueError: it is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{who}: {name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{who}: {name} must be at least {least}, got {value}.")
    if value >= 2**31:
        raise ValueError(f"{who}: {name} must be below 2^31, got {value}.")


def check_positive(who: str, name: str, value: Any) -> None:
    """Raise unless `value` is a positive finite number, Python's or NumPy's.

    Raises:
        TypeError: it is no such number, a traced one among them.
        ValueError: it is not positive and finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{who}: {name} must be a Python number, got {value!r}.")
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{who}: {name} must be positive and finite, got {value}.")


def check_solver(solver: Any, kind: type, example: str) -> None:
    """Raise unless a solver is of its class.

    Raises:
        TypeError: it is not, such as the name of a method alone.
    """
    if not isinstance(solver, kind):
        raise TypeError(f"solver must be of {kind.__name__}, such as {example}, got {solver!r}.")
