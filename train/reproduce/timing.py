"""What a call takes, for the measurements of papers that are about time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


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
