"""The records of a run: written whole or not at all, and the only source of its reports."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
ENVIRONMENT = "environment.json"
CONFIG = "config.toml"
# The end of the name of what is being written: whoever holds the workdir may remove it.
PARTIAL = ".partial"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: a crash leaves the old content or the new, never a part."""
    with _replacing(path) as file:
        file.write(content)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes the place of `path` at the end, or leaves no trace."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def clear_partial(folder: Path) -> None:
    """Remove what a killed run was writing in a folder that is now ours."""
    for path in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, record: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a record as indented JSON; numbers that are not finite become null."""
    text = json.dumps(_finite(record), indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON record, None where there is none or it does not parse."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], compressed: bool = True) -> None:
    """Write arrays as one npz file, in one step.

    Raises:
        ValueError: one holds objects of Python, which would be pickled.
    """
    # NumPy takes `allow_pickle` since 2.1; before, that is the name of one more array.
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"the array {name!r} holds objects of Python, not numbers")
    named: dict[str, Any] = dict(arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as file:
        (np.savez_compressed if compressed else np.savez)(file, **named)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; nothing is unpickled."""
    # numpy leaves a torn file open, so it is opened here.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def series(lines: Iterable[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Return the steps of the lines of metrics that have a metric, and its values there."""
    kept = [line for line in lines if line.get(name) is not None]
    return [line["step"] for line in kept], [line[name] for line in kept]


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, each with its `step`, steps strictly rising."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def truncate(self, last_step: int) -> None:
        """Keep the whole lines up to a step, byte for byte: what is not written again."""
        if self.path.exists():
            kept = b"".join(line for line, record in self._lines() if record["step"] <= last_step)
            if kept != self.path.read_bytes():
                write_bytes(self.path, kept)

    def append(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one line."""
        with self.path.open("ab") as file:
            file.write(_line({"step": step, **metrics}).encode())

    def sync(self) -> None:
        """Make the lines durable, before a checkpoint that counts on them."""
        with self.path.open("ab") as file:
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Return the lines; a last one that a crash tore is left out, so are doubled steps."""
        return [record for _, record in self._lines()]

    def _lines(self) -> list[tuple[bytes, dict[str, Any]]]:
        lines: list[tuple[bytes, dict[str, Any]]] = []
        if not self.path.exists():
            return lines
        for line in self.path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                break
            if not lines or record["step"] > lines[-1][1]["step"]:
                lines.append((line, record))
        return lines


class MemoryLog:
    """The lines of a run without a workdir."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def truncate(self, last_step: int) -> None:
        """Keep the lines up to a step."""
        self._lines = [line for line in self._lines if line["step"] <= last_step]

    def append(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one line."""
        self._lines.append({"step": step, **metrics})

    def sync(self) -> None:
        """Write nothing."""

    def read(self) -> list[dict[str, Any]]:
        """Return the lines."""
        return self._lines


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
