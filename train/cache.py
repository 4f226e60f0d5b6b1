"""The user's cache folder: parsed data sets and compiled programs, never anything precious."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from train import records

VARIABLE = "JACREG_CACHE"


def cache_dir() -> Path:
    """Return `$JACREG_CACHE`, else the XDG cache folder's `jacreg`."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "jacreg"


def cached_arrays(
    name: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """Return `make()`, from `<cache>/<name>.npz` where an earlier call left it.

    A file that does not load is made again; a folder that cannot be written is
    no error. Nothing is ever unpickled.
    """
    path = cache_dir() / f"{name}.npz"
    try:
        return records.read_arrays(path)
    except (OSError, ValueError, BadZipFile, EOFError, KeyError):
        arrays = make()
    with contextlib.suppress(OSError):
        records.write_arrays(path, arrays, compressed=False)
    return arrays
