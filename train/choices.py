"""What `choose` chose, in the config: a run that goes on takes the same method again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from train import records
from train.config import parse
from train.errors import ConfigError
from train.methods import Chosen
from train.named import Named
from train.sections import Config
from train.tables import read_tables


def with_choices(config: Config, found: Mapping[str, Chosen]) -> Config:
    """Write what was chosen beside each `choose`, by its key."""

    def written(path: str, method: Named) -> Named:
        if path not in found:
            return method
        return Named(method.name, {**method.options, "chosen": found[path].method})

    return _changed(config, written)


def choices_of(workdir: Path, config: Config) -> Config:
    """Take over what an earlier run of the same config chose in this folder."""
    try:
        old = parse(read_tables(workdir / records.CONFIG), "")
    except ConfigError:
        return config  # none, or what is said when configs are compared
    earlier: dict[str, Named] = {}

    def taken(path: str, method: Named) -> Named:
        before = earlier.get(path)
        if before is None or method.options.get("chosen") is not None:
            return method
        same = before.options.get("budget") == method.options.get("budget")
        return before if same else method

    _changed(old, earlier.setdefault)
    return _changed(config, taken)


def _changed(config: Config, change: Callable[[str, Named], Named]) -> Config:
    """Change every `choose` of a config."""

    def each(path: str, value: Any) -> Any:
        is_choice = isinstance(value, Named) and value.name == "choose"
        return change(path, value) if is_choice else value

    penalties = tuple(
        replace(penalty, method=each(f"penalty.{index}.method", penalty.method))
        for index, penalty in enumerate(config.penalty)
    )
    options = {key: each(f"task.{key}", value) for key, value in config.task.options.items()}
    return replace(config, penalty=penalties, task=replace(config.task, options=options))
