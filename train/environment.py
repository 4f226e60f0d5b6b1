"""What a run ran on: versions, device, commit, data set and its sizes."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

import jacreg

if TYPE_CHECKING:
    from train.data import Dataset

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "equinox", "datasets")


def describe(dataset: Dataset, batch_size: int) -> dict[str, Any]:
    """Return the record for `environment.json`."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {"jacreg": jacreg.__version__, **_versions()},
        "device": {
            "platform": jax.default_backend(),
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
        },
        "commit": commit(),
        "data": {**dataset.describe(), "batch_size": batch_size},
        "command": sys.argv[1:],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the checkout's commit, with `+changes` where files differ; None outside git."""
    root = Path(__file__).resolve().parent.parent
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return None
    return f"{head}+changes" if _git(root, "status", "--porcelain") else head


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
