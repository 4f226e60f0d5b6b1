"""Plain tables to TOML text: sections, lists of sections, and in them one line a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return TOML for a table of sections; a list of tables becomes `[[section]]`."""
    document = tomlkit.document()
    for name, section in tables.items():
        if isinstance(section, list):
            item = tomlkit.aot()
            for table in section:
                item.append(_filled(tomlkit.table(), table))
        else:
            item = _filled(tomlkit.table(), section)
        document.append(name, item)
    return tomlkit.dumps(document)


def _filled(table: Any, values: Mapping[str, Any]) -> Any:
    for key, value in values.items():
        table.append(key, _item(value))
    return table


def _item(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _filled(tomlkit.inline_table(), value)
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        array.extend([_item(each) for each in value])
        return array
    return value
