"""A choice from a registry with its own options: `"cosine"` or `{name = "cosine", final = 0.1}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from train.expect import Key, keys_of


@dataclass(frozen=True)
class Named:
    """A registry's row by name, with values for that row's options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Marks a key whose value names a row of a registry that parsing is given, by its name there.

    The value is the name alone, or a `Named` where the key's type says so.
    """

    registry: str


@dataclass(frozen=True)
class Choice:
    """A registry of callables; marks a key whose value is a `Named` from it.

    `validate`, where given, is called with the options to let the row itself reject them.
    """

    registry: Mapping[str, Callable[..., Any]]
    validate: Callable[[Named], object] | None = None

    def keys(self, name: str) -> dict[str, Key]:
        """Return the option keys of one row."""
        return keys_of(self.registry[name])
