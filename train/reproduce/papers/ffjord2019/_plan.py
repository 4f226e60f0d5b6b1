"""What is run: eight densities, tables, and two measurements."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import CONFIGS, Job, Settings, measurement, training
from train.reproduce.papers.ffjord2019._measure import cost, one_probe

_FOLDER = CONFIGS / "papers" / "ffjord2019"
_BROKEN = ("task.divergence_weight=0",)
_QUICK = (
    "training.steps=400",
    "data.batch_size=256",
    "data.num_test=2000",
    "optimizer.learning_rate=0.01",
    'optimizer.schedule="cosine"',
    'task.solver={name="rk4",step_size=0.125}',
    "task.grid=64",
)
_QUICK_TABLE = ("training.steps=300",)
# Their densities are known, so that it is known what a flow could reach.
KNOWN = ("8-gaussians", "circles", "checkerboard")
OTHERS = ("swiss-roll", "pinwheel", "two-moons", "2-spirals", "rings")


def jobs(settings: Settings) -> Sequence[Job]:
    """Return every run and measurement."""
    seeds, quick = settings.each_seed, settings.quick
    found = []
    for name in (*KNOWN, *OTHERS):
        overrides = (f"data.name={name}", *(_QUICK if quick else ()))
        found += [
            training(
                f"plane/{name}",
                seed,
                _FOLDER / "2d.toml",
                overrides,
                broken_overrides=_BROKEN,
                cost=3.0,
            )
            for seed in (seeds if name in KNOWN or not quick else seeds[:1])
        ]
    for name, path in settings.data.items():
        source = (f"data.name={name}", f"data.path={path}", *(_QUICK_TABLE if quick else ()))
        found += [
            training(
                f"table/{name}",
                seed,
                _FOLDER / "table.toml",
                source,
                broken_overrides=_BROKEN,
                cost=3.0,
            )
            for seed in seeds
        ]
    sizes = (8, 32, 128) if quick else (8, 32, 128, 512)
    for seed in seeds:
        found += [
            measurement("one-probe", seed, one_probe, dimensions=6),
            measurement("cost", seed, cost, dimensions=sizes),
        ]
    return found
