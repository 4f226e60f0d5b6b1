"""How a reproduction is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCALES = ("quick", "full")


@dataclass(frozen=True)
class Settings:
    """How a reproduction is asked for.

    Attributes:
        scale: "quick" or "full".
        seeds: how many.
        first_seed: the least of them.
        data: folders or files by data set, from `--data NAME=PATH`.
        broken: every penalty weight 0.
        most_steps: training runs of more steps are cut to this many.
    """

    scale: str = "quick"
    seeds: int = 5
    first_seed: int = 0
    data: Mapping[str, str] = field(default_factory=dict)
    broken: bool = False
    most_steps: int | None = None

    @property
    def quick(self) -> bool:
        """Return whether the scale is quick."""
        return self.scale == "quick"

    @property
    def each_seed(self) -> range:
        """Return the seeds, rising."""
        return range(self.first_seed, self.first_seed + self.seeds)
