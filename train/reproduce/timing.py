"""What a call takes, for the measurements of papers that are about time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from train.reproduce._results import Results


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds of a call, which waits for what it computes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def core_seconds(call: Callable[[], Any]) -> float:
    """Return what all cores together spend on a call: what others run does not count."""
    started = time.process_time()
    call()
    return time.process_time() - started


def growth(
    make: Callable[[str, int], Callable[[], Any]],
    names: Sequence[str],
    dimensions: Sequence[int],
    repeats: int,
) -> Mapping[str, Any]:
    """Count core seconds of calls by name and dimension; one of them is "plain".

    The calls take turns, so that a busy moment of the machine meets them all.

    Args:
        make: `(name, dimension)` to a call that is compiled and blocks.
        repeats: turns, of which the fastest is kept.

    Returns:
        `dimensions` and, by name, `seconds/<name>`; `exponent/<name>`: the slope of log(time
        over that of "plain") against log(d); `overhead/<name>`: that ratio at the last dimension.
    """
    found: dict[str, list[float]] = {name: [] for name in names}
    for size in dimensions:
        calls = {name: make(name, size) for name in names}
        best = dict.fromkeys(names, float("inf"))
        for _ in range(repeats):
            for name, call in calls.items():
                call()  # what the one before it left in caches and memory is not its own
                best[name] = min(best[name], core_seconds(call))
        for name in names:
            found[name].append(best[name])
    logs = np.log(np.asarray(dimensions, np.float64))
    result: dict[str, Any] = {"dimensions": np.asarray(dimensions)}
    for name in names:
        result[f"seconds/{name}"] = np.asarray(found[name])
        over = np.log(np.asarray(found[name]) / np.asarray(found["plain"]))
        result[f"exponent/{name}"] = float(np.polyfit(logs, over, 1)[0])
        result[f"overhead/{name}"] = float(np.exp(over[-1]))
    return result


def counted(results: Results, names: Sequence[str]) -> dict[str, tuple[list[float], np.ndarray]]:
    """Return, by name, the dimensions and the seconds `[seeds, dimensions]` of the arm "cost"."""
    sizes = results.stacked("cost", "dimensions")[0].tolist()
    return {name: (sizes, results.stacked("cost", f"seconds/{name}")) for name in names}
