"""The settings of the networks, and the jobs that train them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.reproduce import Job, Settings, measurement
from train.reproduce.papers.novak2018._measure import train_family

LABELS, BATCHES, ACTIVATIONS = ("true", "random"), ("full", "mini"), ("tanh", "relu")
# Of 1/2 norm(J)_F^2 of the logits, pixels in [0, 1]: Hoffman et al.'s on MNIST.
WEIGHT = 0.01
_SIZES: Mapping[str, dict[str, Any]] = {
    "quick": {
        "train_examples": 300,
        "test_examples": 1000,
        "widths": [64, 64],
        "networks": 5,
    },
    "full": {
        "train_examples": 1000,
        "test_examples": 4000,
        "widths": [256, 256],
        "networks": 16,
    },
}
_BATCH = 20


def grid(
    labels: Sequence[str] = LABELS,
    batches: Sequence[str] = BATCHES,
    activations: Sequence[str] = ACTIVATIONS,
) -> list[str]:
    """Return the arms of the grid, or of a part of it."""
    return [f"{one}/{two}/{three}" for one in labels for two in batches for three in activations]


def jobs(settings: Settings) -> Sequence[Job]:
    """Return the grid, then augmentation and the penalty with true labels and mini batches."""
    arms: dict[str, dict[str, Any]] = {}
    for arm in grid():
        labels, batch, activation = arm.split("/")
        arms[arm] = {
            "labels": labels,
            "batch": None if batch == "full" else _BATCH,
            "activation": activation,
        }
    for activation in ACTIVATIONS:
        base = arms[f"true/mini/{activation}"]
        arms[f"augmented/{activation}"] = base | {"augment": True}
        arms[f"penalised/{activation}"] = base | {"weight": WEIGHT}
    sizes, seeds = _SIZES[settings.scale], settings.each_seed
    return [
        job
        for arm, options in arms.items()
        for job in measurement(arm, seeds, train_family, **sizes, **options)
    ]
