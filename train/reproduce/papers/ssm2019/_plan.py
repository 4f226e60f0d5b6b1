"""What is run: losses by dimension on a mixture, on tables, and two measurements."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import CONFIGS, Job, Settings, measurement, training, uci
from train.reproduce.papers.ssm2019._measure import cost, slices

_FOLDER = CONFIGS / "papers" / "ssm2019"
# Slices of one more arm, and the dimensions in which it runs.
SLICED, MANY = 8, 8
LOSSES = {
    "exact": ('task.loss="implicit"', 'task.method="auto"'),
    "sliced": ('task.loss="sliced"',),
    "sliced-vr": (),
    "denoising": ('task.loss="denoising"', "task.scale=0.1"),
}
_BROKEN = ("task.divergence_weight=0",)
# In the plane the part of the score that is not linear weighs most, and takes longest to learn.
_QUICK_PLANE = ("training.steps=2000", "optimizer.learning_rate=0.005", "data.batch_size=256")
_QUICK = ("training.steps=1000", "optimizer.learning_rate=0.005", "data.batch_size=128")
_QUICK_TABLE = ("training.steps=400",)


def dimensions(settings: Settings) -> tuple[int, ...]:
    """Return the dimensions of the mixture, rising."""
    return (2, 8) if settings.quick else (2, 8, 32, 128)


def jobs(settings: Settings) -> Sequence[Job]:
    """Return every run and measurement."""
    seeds, quick = settings.each_seed, settings.quick
    found = []
    for size in dimensions(settings):
        steps = (_QUICK_PLANE if size == 2 else _QUICK) if quick else ()
        arms = dict(LOSSES)
        if size == MANY:
            arms[f"sliced-vr-{SLICED}"] = (f"task.num_probes={SLICED}",)
        for name, overrides in arms.items():
            found += training(
                f"mixture-{size}/{name}",
                seeds,
                _FOLDER / "mixture.toml",
                (f"data.dimensions={size}", *overrides, *steps),
                broken_overrides=_BROKEN,
                cost=1 + size / 16 if "exact" in name or str(SLICED) in name else 1.0,
            )
    config, tables = _FOLDER / "table.toml", {f"{{table}}/{k}": v for k, v in LOSSES.items()}
    sizes = (4, 16, 64) if quick else (8, 32, 128, 512)
    return [
        *found,
        *uci.runs(settings, config, tables, _QUICK_TABLE, broken_overrides=_BROKEN),
        *measurement("slices", seeds, slices, dimensions=8),
        *measurement("cost", seeds, cost, dimensions=sizes, cost=2.0),
    ]
