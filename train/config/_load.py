"""Reading a config file and comparing two configs."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.config._overrides import override
from train.config._parse import parse, resolved
from train.config._schema import Config
from train.config._write import to_toml
from train.errors import ConfigError


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


def read_tables(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file, or say why it has none."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such config file; configs/quickstart.toml is one to start from."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}).") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {str(error)[:200]}.") from None


def dump(config: Config) -> str:
    """Return the config as TOML with every default written out."""
    return to_toml(resolved(config))


def differences(old: Config, new: Config) -> list[str]:
    """Return `path: old -> new` for every key that differs."""
    before, after = _flat(resolved(old), ""), _flat(resolved(new), "")
    return [
        f"{path}: {before.get(path, 'absent')!r} -> {after.get(path, 'absent')!r}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _flat(node: Any, path: str) -> dict[str, Any]:
    if isinstance(node, dict):
        items = [(f"{path}.{key}" if path else key, item) for key, item in node.items()]
    elif isinstance(node, list) and node and isinstance(node[0], dict):
        items = [(f"{path}.{index}", item) for index, item in enumerate(node)]
    else:
        return {path: node}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat.update(_flat(item, name))
    return flat
