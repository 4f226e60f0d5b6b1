"""Saying that an array does not fit before anything is allocated for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# What a batch of unknown size (`jax.export`'s) counts as: many.
_UNKNOWN_SIZE = 1 << 10

# Smaller arrays fit anywhere: no file is read and no device asked for them.
_SMALL = 1 << 28  # bytes


def is_symbolic(size: Any) -> bool:
    """Whether the length of an axis is a symbol, known when an exported program is called."""
    return not isinstance(size, int | np.integer)


def known_size(size: Any) -> int:
    """The length of an axis, for policies: that of a large one where it is a symbol."""
    return _UNKNOWN_SIZE if is_symbolic(size) else int(size)


def known_entries(shape: Iterable[Any]) -> int:
    """Entries of an array, for policies: of a large one where the length of an axis is a symbol."""
    return prod(map(known_size, shape))


def check_fits(who: str, what: str, shape: Sequence[int], dtype: Any, instead: str) -> None:
    """Raise where one array is larger than all the memory that there is.

    A lower bound on what the computation takes: what passes may yet be too large.

    Args:
        who: the function, for the message.
        what: the array.
        shape, dtype: of the array.
        instead: what to do.

    Raises:
        ValueError: the bytes wanted, those available, and `instead`.
    """
    if any(map(is_symbolic, shape)):
        return
    wanted = prod(shape) * jnp.dtype(dtype).itemsize
    if wanted < _SMALL:
        return
    available = available_bytes()
    if available is not None and wanted > available:
        raise ValueError(
            f"{who}: {what} {list(shape)} in {jnp.dtype(dtype).name} takes {_shown(wanted)}, but "
            f"{_shown(available)} are available. {instead}"
        )


def array_bytes(aval: Any) -> int:
    """Bytes of an array of a program, of a size that may be symbolic (see `known_size`)."""
    # Keys have a size of their own, which NumPy does not know.
    width = getattr(aval.dtype, "itemsize", None) or jnp.dtype(aval.dtype).itemsize
    return known_entries(aval.shape) * width


def available_bytes() -> int | None:
    """Return the memory of all devices, on CPU what the system can give; None where unknown."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return _system_bytes()
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.devices()]
    return None if None in limits else sum(limit or 0 for limit in limits)


def _system_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(found.split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _shown(count: int) -> str:
    return f"{count:,} bytes ({count / 2**30:.1f} GiB)"
