"""Plain tables to TOML text: sections, lists of tables, inline tables, scalars."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return TOML for a table of sections; a list of tables becomes `[[section]]`."""
    blocks = []
    for name, section in tables.items():
        header = f"[[{name}]]" if isinstance(section, list) else f"[{name}]"
        for table in section if isinstance(section, list) else [section]:
            lines = [f"{key} = {_value(item)}" for key, item in table.items()]
            blocks.append("\n".join([header, *lines]))
    return "\n\n".join(blocks) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(_value(item) for item in value) + "]"
