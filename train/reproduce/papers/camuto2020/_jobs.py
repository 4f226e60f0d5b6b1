"""The networks that are trained with noise, with its explicit form and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.reproduce import Job, Settings, measurement
from train.reproduce.papers.camuto2020._measure import compare_losses, learn_frequencies

TASKS = {"regression": 404, "classification": 512}
METHODS = ("clean", "noise", "explicit")
FREQUENCIES = tuple(range(1, 10))
NOISE = 0.1
_WIDTHS: Mapping[str, dict[str, Any]] = {
    "quick": {"losses": 128, "frequencies": 64, "steps": 3000},
    "full": {"losses": 512, "frequencies": 256, "steps": 20000},
}


def jobs(settings: Settings) -> Sequence[Job]:
    """Return the two tasks with noise and without, and the three ways to fit the sinusoids."""
    sizes, seeds, found = _WIDTHS[settings.scale], settings.each_seed, []
    for task, batch in TASKS.items():
        for arm, noise in (("clean", 0.0), ("noise", NOISE)):
            found += measurement(
                f"{task}/{arm}",
                seeds,
                compare_losses,
                task=task,
                noise=noise,
                width=sizes["losses"],
                epochs=250,
                batch=batch,
                rate=1e-3,
                pairs=64,
                cost=3.0,
            )
    for method in METHODS:
        found += measurement(
            f"sinusoids/{method}",
            seeds,
            learn_frequencies,
            method=method,
            noise=NOISE,
            frequencies=list(FREQUENCIES),
            points=256,
            width=sizes["frequencies"],
            steps=sizes["steps"],
            rate=3e-3,
        )
    return found
