"""Seconds of calls that are compared: compiled beforehand, blocked on, taken in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

# A call shorter than this is repeated inside one reading, so that the clock's grain is nothing.
_LEAST_SECONDS = 0.02
_AWAKE_SECONDS = 0.2  # before a reading that follows a rest
_ROUNDS = 9


class Times(NamedTuple):
    """Readings of calls, taken in turns: column by column the machine was the same.

    Attributes:
        readings: seconds a call, `{name: [rounds]}`.
    """

    readings: dict[str, np.ndarray]

    def median(self, name: str) -> float:
        """Return the median of one call's readings, in seconds."""
        return float(np.median(self.readings[name]))

    def least(self, name: str) -> float:
        """Return the smallest of one call's readings, in seconds."""
        return float(self.readings[name].min())

    def ratio(self, ours: str, theirs: str) -> tuple[float, float, float]:
        """Return the median and the quartiles of ours / theirs over the rounds."""
        ratios = self.readings[ours] / self.readings[theirs]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return float(middle), float(low), float(high)


def in_turns(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int = _ROUNDS, rest: float = 0.0
) -> Times:
    """Time calls without arguments, one reading of each a round.

    Each is called twice before the first reading: compilation and first use stay outside. What a
    call returns is blocked on (leaves that are no JAX arrays are taken to be ready).

    Args:
        calls: by name.
        rounds: how many readings of each.
        rest: seconds before each reading. PyTorch's threads spin for a while after a call and
            slow down whatever comes next. After the rest the call runs for a while unread, as
            a core that has slept is slow at first.

    Raises:
        ValueError: fewer than five rounds, whose median says little.
    """
    if rounds < 5:
        raise ValueError(f"rounds must be at least 5, got {rounds}.")
    repeats = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        repeats[name] = max(1, round(_LEAST_SECONDS / max(_seconds(call, 1), 1e-7)))

    def reading(name: str) -> float:
        if rest:
            time.sleep(rest)
            _seconds(calls[name], max(1, round(_AWAKE_SECONDS / _LEAST_SECONDS)) * repeats[name])
        return _seconds(calls[name], repeats[name])

    readings = [{name: reading(name) for name in calls} for _ in range(rounds)]
    return Times({name: np.asarray([each[name] for each in readings]) for name in calls})


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.perf_counter() - started) / repeats
