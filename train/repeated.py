"""A checkpoint that is evaluated again: whether it gives what training wrote of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax

from train.progress import shown_metric

if TYPE_CHECKING:
    from train.loop import Loop
    from train.step import TrainState

# What another device or release may round; a smaller part of one is not told.
_RELATIVE, _ABSOLUTE = 1e-2, 1e-6
_MOST = 3  # metrics that are told


def other_numbers(loop: Loop, state: TrainState, moved: Sequence[str]) -> str | None:
    """Return what to say where the last checkpoint has other test metrics than its line says.

    None where they agree up to rounding, where no line has any, and where this process took steps,
    so that what it wrote is its own.

    Args:
        loop, state: of a run that has taken all its steps.
        moved: what has changed since, `what: old -> new`, as far as records say.
    """
    if loop.timing.chunks or jax.process_count() > 1:
        return None
    line = next((each for each in loop.log.read() if each["step"] == loop.step), {})
    written = {name: value for name, value in line.items() if name.startswith("test/")}
    if not written:
        return None
    found = loop.problem.evaluate(state.params, state.model_state, False)
    parted = [name for name in written if not _alike(written[name], found.get(name))]
    if not parted:
        return None
    told = ", ".join(
        f"{name} {shown_metric(name, found.get(name))} in place of "
        f"{shown_metric(name, written[name])}"
        for name in parted[:_MOST]
    )
    more = f" and {len(parted) - _MOST} more" if len(parted) > _MOST else ""
    why = f"what changed since is {'; '.join(moved)}" if moved else "no record says what changed"
    return (
        f"the checkpoint of step {loop.step} gives other numbers than training wrote of it: "
        f"{told}{more}. Parameters, data and config are the same, so another device, or other "
        f"versions of packages or of the code, computed them; {why}."
    )


def _alike(written: float | None, found: float | None) -> bool:
    """Return whether two values agree; what is not finite is written as None."""
    one, other = (math.nan if value is None else value for value in (written, found))
    if not (math.isfinite(one) and math.isfinite(other)):
        return not (math.isfinite(one) or math.isfinite(other))
    return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
