"""The papers by name; each module is imported when its paper is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.reproduce._paper import Paper


def _load(module: str) -> Callable[[], Paper]:
    return lambda: import_module(f"train.reproduce.papers.{module}").PAPER


PAPERS: Mapping[str, Callable[[], Paper]] = {
    "convolution-guide": _load("convolution_guide"),
    "hoffman2019": _load("hoffman2019"),
    "rifai2011": _load("rifai2011"),
    "camuto2020": _load("camuto2020"),
    "novak2018": _load("novak2018"),
    "bai2021": _load("bai2021"),
    "ffjord2019": _load("ffjord2019"),
    "rnode2020": _load("rnode2020"),
    "hyvarinen2005": _load("hyvarinen2005"),
    "ssm2019": _load("ssm2019"),
    "lutter2019": _load("lutter2019"),
    "scarvelis2024": _load("scarvelis2024"),
    "delattre2023": _load("delattre2023"),
    "lipschitz2023": _load("lipschitz2023"),
    "mescheder2018": _load("mescheder2018"),
    "dangel2025": _load("dangel2025"),
}
