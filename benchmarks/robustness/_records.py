"""The records of what was tried, one JSON file a subject, beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.records import write_json

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent / "records"


def save(name: str, record: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write a record, in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_json(path, record)
    return path


def read(name: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """Return a record, None where that was not tried."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None
