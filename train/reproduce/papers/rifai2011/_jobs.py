"""The autoencoders of table 1, and CAE+H."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from train.reproduce import CONFIGS, Job, Settings, training


class Row(NamedTuple):
    """A row of table 1: config, then the paper's error %, norm (x 1e-4) and saturation %."""

    config: Path
    title: str
    error: float
    norm: float
    saturation: float


_PLAIN, _OURS = CONFIGS / "autoencoder", CONFIGS / "papers" / "rifai2011"
ROWS = {
    "cae": Row(_PLAIN / "contractive.toml", "CAE", 1.14, 0.73, 86.36),
    "dae-g": Row(_PLAIN / "denoising.toml", "DAE-g", 1.18, 0.86, 17.77),
    "dae-b": Row(_OURS / "masking.toml", "DAE-b", 1.57, 7.87, 68.19),
    "ae-wd": Row(_PLAIN / "weight-decay.toml", "AE+wd", 1.68, 5.00, 12.97),
    "ae": Row(_PLAIN / "plain.toml", "AE", 1.78, 17.5, 49.90),
}
OTHERS = tuple(name for name in ROWS if name != "cae")
HESSIAN = "cae-h"
# What the runs record of the encoder.
NORM, SATURATION = "pretrain/jacobian_norm", "pretrain/saturation"
LARGE = "pretrain/large_singular_values"
_GEOMETRY = "task.geometry_examples=20"
_QUICK = (
    "model.hidden=[200]",
    "task.pretrain_steps=2000",
    "training.steps=3000",
    "training.eval_every=3000",
)
# With the configs' 0.1 the CAE's norm fell by a tenth alone, against 24 times in the paper.
_WEIGHT = ("penalty.0.weight=1.0",)
_WEIGHTS = {"cae": _WEIGHT, HESSIAN: (*_WEIGHT, "penalty.1.weight=1.0")}
# MNIST's 60000 digits in place of 4000: the same number of epochs.
_MNIST = ("task.pretrain_steps=60000", "training.steps=120000", "training.eval_every=20000")


def jobs(settings: Settings) -> Sequence[Job]:
    """Return the trainings, by arm and seed."""
    overrides = [_GEOMETRY]
    if settings.quick:
        overrides += _QUICK
    elif "mnist" in settings.data:
        overrides += [*_MNIST, f"data.path={settings.data['mnist']}"]
    configs = {name: row.config for name, row in ROWS.items()}
    configs[HESSIAN] = _OURS / "contractive-hessian.toml"
    found = []
    for arm, config in configs.items():
        changes, cost = [*overrides, *_WEIGHTS.get(arm, ())], 2.5 if arm == HESSIAN else 1.0
        found += training(arm, settings.each_seed, config, changes, cost=cost)
    return found
