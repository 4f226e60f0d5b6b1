"""Command-line overrides: `section.key=value`, values in TOML, list items by index."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Sequence
from typing import Any

from train.errors import ConfigError, shown


def override(tables: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `tables` with each `section.key=value` put in, in order.

    Raises:
        ConfigError: an override has no `=`, an empty path, or an index out of range.
    """
    tables = copy.deepcopy(tables)
    for text in overrides:
        path, equals, value = text.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not equals or not all(parts):
            raise ConfigError(
                f"override {shown(text)}: expected section.key=value, "
                "for instance training.steps=600 or penalty.0.weight=0.1."
            )
        _put(tables, parts, toml_value(value))
    return tables


def toml_value(text: str) -> Any:
    """Return the TOML value of `text`; what does not parse is a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    # A line break in the text could smuggle further keys in.
    return parsed["value"] if set(parsed) == {"value"} else text


def _put(tables: dict[str, Any], parts: list[str], value: Any) -> None:
    node: Any = tables
    for depth, part in enumerate(parts[:-1]):
        node = _step(node, part, ".".join(parts[: depth + 1]))
    last, path = parts[-1], ".".join(parts)
    if isinstance(node, list):
        node[_index(node, last, path)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise _not_a_table(path, node)


def _step(node: Any, part: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, path)]
    if isinstance(node, dict):
        return node.setdefault(part, {})
    raise _not_a_table(path, node)


def _index(items: list[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        have = f"indices 0 to {len(items) - 1}" if items else "no items"
        raise ConfigError(
            f"override {path[:120]}: got {shown(part)}, expected an index; the list has {have}. A "
            f"further one is written in the file, [[{path.partition('.')[0][:40]}]]."
        )
    return int(part)


def _not_a_table(path: str, node: Any) -> ConfigError:
    return ConfigError(
        f"override {path[:120]}: the key before it holds {shown(node)}, which has no keys; "
        'write it as a table, for instance {name = "projection", num_probes = 2}.'
    )
