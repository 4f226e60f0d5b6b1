"""Reading a config file, writing one, and comparing two configs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from train.config._overrides import override
from train.config._parse import parse, resolved
from train.sections import Config
from train.tables import flat, read_tables

# A key of a table that stands in a list: penalty.0.weight.
_OF_A_LIST = re.compile(r"(\w+\.\d+)\.")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML config; the file must be valid by itself before the overrides apply.

    Raises:
        ConfigError: the file is absent, no TOML, or says something that is not known.
    """
    path = Path(path)
    tables = read_tables(path)
    config = parse(tables, str(path))
    if not overrides:
        return config
    return parse(override(tables, overrides), "command line")


def dump(config: Config) -> str:
    """Return the config as TOML with every default written out."""
    return to_toml(resolved(config))


def differences(old: Config, new: Config) -> list[str]:
    """Return `path: old -> new` for every key that differs; a table that one lacks is one entry."""
    before, after = flat(resolved(old)), flat(resolved(new))
    for here, there in ((before, after), (after, before)):
        for table in {match[1] for path in here if (match := _OF_A_LIST.match(path))}:
            if not any(path.startswith(f"{table}.") for path in there):
                keys = [path for path in here if path.startswith(f"{table}.")]
                whole = {path.removeprefix(f"{table}."): here.pop(path) for path in keys}
                here[table] = whole.get("name", whole)

    def shown(side: dict[str, Any], path: str) -> str:
        return repr(side[path]) if path in side else "absent"

    return [
        f"{path}: {shown(before, path)} -> {shown(after, path)}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


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
