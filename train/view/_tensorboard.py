"""The scalars of runs as TensorBoard event files, through tensorboardX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from train.errors import UserError
from train.view._read import Run


def write_events(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write each run's log, and its final metrics at its last step; return the runs' folders.

    Raises:
        UserError: tensorboardX is not installed, or a run's folder has events already.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            '--tensorboard: needs tensorboardX; install it with pip install -e ".[tensorboard]".'
        ) from None
    targets = [folder / re.sub(r"[^\w.=-]+", "-", run.title) for run in runs]
    for target in targets:
        if any(target.glob("events.out.tfevents.*")):
            raise UserError(
                f"--tensorboard {folder}: {target} has events already, and TensorBoard would draw "
                "both. Remove them, or name another folder."
            )
    for run, target in zip(runs, targets, strict=True):
        with SummaryWriter(str(target)) as writer:
            for line in run.lines:
                for name, value in line.items():
                    if name != "step" and value is not None:
                        writer.add_scalar(name, value, line["step"])
            for name, value in (run.summary.get("metrics") or {}).items():
                if value is not None:
                    writer.add_scalar(f"final/{name}", value, run.summary.get("steps", 0))
    return targets
