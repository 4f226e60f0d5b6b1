"""The tables of a TOML file, or why it has none; read before anything heavy is imported."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from train.errors import ConfigError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
QUICKSTART = CONFIGS / "quickstart.toml"
_MOST_FILES = 1000
_ALIKE = 0.6


def read_tables(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        ConfigError: it is absent (the nearest that exists is named), or no TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        near = _near(path) or "configs/quickstart.toml"
        raise ConfigError(
            f"{path}: no such config file. The nearest that exists is {near}; "
            "python -m train --list names those of the checkout."
        ) from None
    except IsADirectoryError:
        files = [str(each) for each in _listed(path)]
        more = f" and {len(files) - 4} more" if len(files) > 4 else ""
        holds = f"it holds {', '.join(files[:4])}{more}" if files else "it holds no .toml file"
        raise ConfigError(f"{path}: a folder, not a config file; {holds}.") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the config: {error.strerror}; expected a TOML file such as "
            "configs/quickstart.toml."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}).") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {str(error)[:200]}.") from None


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested tables by their dotted paths, lists of tables by index."""
    if isinstance(node, Mapping):
        items = list(node.items())
    elif isinstance(node, list) and node and isinstance(node[0], Mapping):
        items = list(enumerate(node))
    else:
        return {path: node}
    return {
        name: leaf
        for key, item in items
        for name, leaf in flat(item, f"{path}.{key}" if path else str(key)).items()
    }


def _near(path: Path) -> str | None:
    """Return the config most like a path, by its name and by where it is; None for none like it."""
    folders = (path.parent, Path(), Path("configs"), CONFIGS)
    known = dict.fromkeys(str(each) for folder in folders for each in _listed(folder))

    def likeness(each: str) -> tuple[float, float]:
        name = SequenceMatcher(None, path.name, Path(each).name).ratio()
        return name, SequenceMatcher(None, str(path)[-80:], each[-80:]).ratio()

    best = max(known, key=lambda each: sum(likeness(each)), default=None)
    return best if best is not None and likeness(best)[0] > _ALIKE else None


def _listed(folder: Path) -> list[Path]:
    """Return TOML files below a folder of configs, and only those in any other."""
    try:
        below = folder.rglob("*.toml") if folder.name == "configs" else folder.glob("*.toml")
        files = sorted(path for path, _ in zip(below, range(_MOST_FILES), strict=False))
    except OSError:
        return []
    here = Path.cwd()
    return [path.relative_to(here) if path.is_relative_to(here) else path for path in files]
