"""What is run: eight densities, tables, and two measurements."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import CONFIGS, Job, Settings, measurement, training, uci
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
# Their densities are known, so that it is known what a flow could reach.
KNOWN = ("8-gaussians", "circles", "checkerboard")
OTHERS = ("swiss-roll", "pinwheel", "two-moons", "2-spirals", "rings")


def jobs(settings: Settings) -> Sequence[Job]:
    """Return every run and measurement."""
    seeds, quick = settings.each_seed, settings.quick
    found = []
    for name in (*KNOWN, *OTHERS):
        found += training(
            f"plane/{name}",
            seeds if name in KNOWN or not quick else seeds[:1],
            _FOLDER / "2d.toml",
            (f"data.name={name}", *(_QUICK if quick else ())),
            broken_overrides=_BROKEN,
            cost=3.0,
        )
    sizes = (8, 32, 128) if quick else (8, 32, 128, 512)
    return [
        *found,
        *uci.runs(
            settings,
            _FOLDER / "table.toml",
            {"table/{table}": ()},
            ("training.steps=300",),
            broken_overrides=_BROKEN,
            cost=3.0,
        ),
        *measurement("one-probe", seeds, one_probe, dimensions=6),
        *measurement("cost", seeds, cost, dimensions=sizes),
    ]
