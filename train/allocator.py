"""What a long run asks of the C library's allocator, so that its memory does not creep up."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h
_LEAST_ARENAS = 4


def bound_arenas() -> None:
    """Let threads share two arenas a core, at least four, where glibc would take eight a core.

    Threads of XLA and of the checkpoint library leave a little freed memory in every arena that
    they pass through: on two cores some 5 MiB over a million small steps with sixteen arenas,
    0.1 MiB or less with four. A MALLOC_ARENA_MAX of the environment is left alone.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    count = max(_LEAST_ARENAS, 2 * (os.cpu_count() or 1))
    # Only glibc has it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, count)


def give_back() -> None:
    """Return freed memory to the system."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
