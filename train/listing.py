"""The configs with their claims, and what a config can name: networks, penalties, methods, ..."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from models._networks import NETWORKS
from train.data import BUILTINS
from train.expect import REQUIRED, Key, keys_of, string
from train.methods import METHODS
from train.named import Choice, Named
from train.networks import model_keys
from train.optimizers import OPTIMIZERS
from train.penalties import PENALTIES
from train.schedules import SCHEDULES
from train.tables import CONFIGS
from train.tasks import TASKS

_WIDTH = 100
_REGISTRIES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "data.name": BUILTINS,
    "model.name": {name: network.spec for name, network in NETWORKS.items()},
    "task.name": TASKS,
    "penalty.N.name": {name: row.compute for name, row in PENALTIES.items()},
    "penalty.N.method": METHODS,
    "optimizer.name": OPTIMIZERS,
    "optimizer.schedule, penalty.N.schedule": SCHEDULES,
}
_BESIDE = {"data.name": " (or a hub data set as owner/name, or data.path)"}


def claims() -> dict[str, str]:
    """Return each config's claim by its path; those that only test the program have none."""
    found = {}
    for path in sorted(CONFIGS.rglob("*.toml")):
        card = re.match(r"(#.*\n)*", path.read_text())
        text = re.sub(r"\n# *", " ", card[0]) if card else ""
        claim = re.match(r"# Claim +(.*?) +(?:Command|Expect) ", text)
        if claim:
            found[path.relative_to(CONFIGS.parent).as_posix()] = re.sub(" +", " ", claim[1])
    return found


def names() -> dict[str, Any]:
    """Return the claims of the configs, and the names of every registry."""
    return {"configs": claims(), **{title: list(rows) for title, rows in _REGISTRIES.items()}}


def listing() -> str:
    """Return configs and registries as text, each row with its options and defaults."""
    lines = ["configs (python -m train PATH)"]
    for path, claim in claims().items():
        lines += [
            f"  {path}",
            *textwrap.wrap(claim, _WIDTH - 6, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    blocks = ["\n".join(lines)]
    for title, rows in _REGISTRIES.items():
        lines = [title + _BESIDE.get(title, "")]
        width = 2 + max(len(name) for name in rows)
        for name, row in rows.items():
            says = (row.__doc__ or "").strip().splitlines()
            lines.append(f"  {name:<{width}}{says[0] if says else ''}")
            of_model = title == "model.name"
            options = _options(model_keys(name) if of_model else keys_of(row))
            if of_model:
                options.insert(0, f"framework: {', '.join(NETWORKS[name].frameworks)}")
            lines += [f"  {'':<{width}}  {option}" for option in options]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _options(keys: Mapping[str, Key]) -> list[str]:
    return [
        f"{name}: {_accepted(key)}" + _default(key.default)
        for name, key in keys.items()
        if name != "method"
    ]


def _accepted(key: Key) -> str:
    """Return what a key accepts; where that is a row of a registry, the names of its rows."""
    choice = key.mark(Choice)
    return key.expect.what if choice is None else string(choice.registry).what


def _default(value: Any) -> str:
    """Return a default as a config has it."""
    if value is REQUIRED:
        return ""
    if value is None:
        return " (may be left out)"
    if isinstance(value, Named):
        value = value.name
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, tuple):
        value = list(value)
    return f" (default {value})"
