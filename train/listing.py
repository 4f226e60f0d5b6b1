"""What a config can name: data sets, networks, tasks, penalties, methods, schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models._networks import NETWORKS
from train.data import BUILTINS
from train.expect import REQUIRED, Key, keys_of
from train.methods import METHODS
from train.models import model_keys
from train.optimizers import OPTIMIZERS
from train.penalties import PENALTIES
from train.schedules import SCHEDULES
from train.tasks import TASKS


def listing() -> str:
    """Return the registries as text, each row with its options and defaults."""
    registries: Mapping[str, Mapping[str, Callable[..., Any]]] = {
        "data.name (or a hub data set as owner/name, or data.path)": BUILTINS,
        "model.name": {name: network.spec for name, network in NETWORKS.items()},
        "task.name": TASKS,
        "penalty.N.name": PENALTIES,
        "penalty.N.method": METHODS,
        "optimizer.name": OPTIMIZERS,
        "optimizer.schedule, penalty.N.schedule": SCHEDULES,
    }
    blocks = []
    for title, rows in registries.items():
        lines = [title]
        width = 2 + max(len(name) for name in rows)
        for name, row in rows.items():
            says = (row.__doc__ or "").strip().splitlines()
            lines.append(f"  {name:<{width}}{says[0] if says else ''}")
            keys = model_keys(name) if title == "model.name" else keys_of(row)
            lines += [f"  {'':<{width}}  {option}" for option in _options(keys)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _options(keys: Mapping[str, Key]) -> list[str]:
    return [
        f"{name}: {key.expect.what}"
        + ("" if key.default is REQUIRED else f" (default {key.default})")
        for name, key in keys.items()
        if name != "method"
    ]
