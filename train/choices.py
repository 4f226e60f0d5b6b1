"""What `choose` chose, in the config: a run that goes on takes the same method again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from train.methods import Chosen
from train.named import Named
from train.sections import Config


def with_choices(config: Config, choices: Iterable[Chosen]) -> Config:
    """Write what was chosen beside each `choose`."""
    found = {chosen.path: chosen.method for chosen in choices}

    def written(path: str, method: Named) -> Named:
        if path not in found:
            return method
        return Named(method.name, {**method.options, "chosen": found[path]})

    return _changed(config, written)


def choices_of(old: Config, config: Config) -> Config:
    """Take over what an earlier run of the same config chose."""
    earlier: dict[str, Named] = {}

    def taken(path: str, method: Named) -> Named:
        before = earlier.get(path)
        if before is None or method.options.get("chosen") is not None:
            return method
        same = before.options.get("budget") == method.options.get("budget")
        return before if same else method

    _changed(old, earlier.setdefault)
    return _changed(config, taken)


def unmeasured(config: Config) -> Config:
    """Let every `choose` stand for a method that fits, for a look at the config alone."""

    def fixed(path: str, method: Named) -> Named:
        return Named(method.name, {**method.options, "chosen": Named("auto")})

    return _changed(config, fixed)


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
