"""What a long run asks of the C library's allocator: neither creep nor the same pages anew."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LEAST_ARENAS = 4
_KEPT, _KEPT_BY_OLDER = 2**30, 2**25


def settle_allocator() -> None:
    """Bound the arenas, and keep what a step gives back for the next one.

    Threads of XLA and of the checkpoint library leave a little freed memory in every arena that
    they pass through: on two cores some 5 MiB over a million small steps with glibc's sixteen
    arenas, 0.1 MiB or less with four. Here two a core, at least four.

    XLA takes the temporary memory of a step anew each time. From 32 MiB on glibc would map it and
    give it back at once, and the system clear thousands of pages a step: LeNet' with batch 400
    took 34 ms in place of 20.

    Variables of the environment for any of the three (`MALLOC_ARENA_MAX` and so on) win.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _set(_ARENA_MAX, max(_LEAST_ARENAS, 2 * (os.cpu_count() or 1)))
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & set(os.environ):
        return
    # Older releases refuse more than 32 MiB. Either setting alone would end glibc's own
    # adaptation and make it worse.
    if _set(_MMAP_THRESHOLD, _KEPT) or _set(_MMAP_THRESHOLD, _KEPT_BY_OLDER):
        _set(_TRIM_THRESHOLD, _KEPT)


def give_back() -> None:
    """Return freed memory to the system."""
    # Only glibc has it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(option: int, value: int) -> bool:
    """Return whether the C library has the option and takes the value."""
    try:
        return bool(ctypes.CDLL(None).mallopt(option, value))
    except (OSError, AttributeError):
        return False
