"""The papers by name; each module is imported when its paper is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.reproduce._paper import Paper

_NAMES = (
    "convolution-guide", "hoffman2019", "rifai2011", "camuto2020", "novak2018", "bai2021",
    "ffjord2019", "rnode2020", "hyvarinen2005", "ssm2019", "lutter2019", "scarvelis2024",
    "delattre2023", "lipschitz2023", "mescheder2018", "dangel2025",
)  # fmt: skip


def _load(name: str) -> Callable[[], Paper]:
    module = name.replace("-", "_")
    return lambda: import_module(f"train.reproduce.papers.{module}").PAPER


PAPERS: Mapping[str, Callable[[], Paper]] = {name: _load(name) for name in _NAMES}
