"""What is run: densities with a known score, tables, and three measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from train.reproduce import CONFIGS, Job, Settings, measurement, training, uci
from train.reproduce.papers.hyvarinen2005._measure import gaussian_model, theorem
from train.reproduce.papers.ssm2019._measure import cost

_FOLDER = CONFIGS / "papers" / "hyvarinen2005"
_BROKEN = ("task.divergence_weight=0",)
_QUICK = ("training.steps=600",)
# Curved densities take longer than a linear score.
_QUICK_SHAPE = ("training.steps=2000", "optimizer.learning_rate=0.005")
_QUICK_TABLE = ("training.steps=400",)
_SHAPES = ("gaussian-mixture", "8-gaussians", "circles")


def dimensions(settings: Settings) -> tuple[int, ...]:
    """Return the dimensions of the Gaussian, rising."""
    return (2, 4, 8) if settings.quick else (2, 8, 32, 128)


def densities(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """Return the overrides of each density by its arm."""
    found: dict[str, tuple[str, ...]] = {
        f"density/{name}": (f"data.name={name}",) for name in _SHAPES
    }
    for size in dimensions(settings):
        source = ("data.name=gaussian", f"data.dimensions={size}", "data.correlation=0.8")
        found[f"gaussian/{size}"] = source
    return found


def jobs(settings: Settings) -> Sequence[Job]:
    """Return every run and measurement."""
    seeds, quick = settings.each_seed, settings.quick
    arms = dict(densities(settings))
    arms["linear/gaussian-mixture"] = ("data.name=gaussian-mixture", "model.hidden=[]")
    found, config = [], _FOLDER / "density.toml"
    for arm, overrides in arms.items():
        overrides = (*overrides, *_steps(arm, quick))
        found += training(arm, seeds, config, overrides, broken_overrides=_BROKEN)
    config = _FOLDER / "table.toml"
    tables = {"table/{table}": ()}
    found += uci.runs(settings, config, tables, _QUICK_TABLE, broken_overrides=_BROKEN)
    sizes = (4, 16, 64) if quick else (8, 32, 128, 512)
    counts = (100, 1000, 10_000) if quick else (100, 1000, 10_000, 100_000)
    return [
        *found,
        *measurement("theorem", seeds, theorem),
        *measurement("gaussian-model", seeds, gaussian_model, dimensions=4, counts=counts),
        *measurement("cost", seeds, cost, dimensions=sizes, cost=2.0),
    ]


def _steps(arm: str, quick: bool) -> tuple[str, ...]:
    if not quick:
        return ()
    return _QUICK if arm.startswith("gaussian/") else _QUICK_SHAPE
