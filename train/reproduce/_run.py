"""A whole reproduction: plan, jobs, verdicts, report, in one folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from train.errors import UserError
from train.reproduce._claims import Verdict
from train.reproduce._folder import check_seeds
from train.reproduce._job import Job
from train.reproduce._paper import Paper
from train.reproduce._report import write_report
from train.reproduce._results import Results
from train.reproduce._runner import run_jobs
from train.reproduce._settings import SCALES, Settings
from train.statistics import MOST_SEEDS
from train.workdir import locked


def reproduce(
    paper: Paper, settings: Settings, folder: Path, workers: int
) -> tuple[Path, list[Verdict]]:
    """Do what is not done yet and write the report; return it and the verdicts.

    Raises:
        UserError: bad input, a folder in use, of another plan or of more seeds, or a run that
            failed.
    """
    check(paper, settings)
    jobs, cut = within(list(paper.jobs(settings)), settings.most_steps)
    names = [job.name for job in jobs]
    if len(set(names)) != len(names):
        raise AssertionError(f"{paper.name}: two jobs of one name")
    with locked(folder):
        check_seeds(folder, settings.seeds)
        run_jobs(
            jobs,
            folder,
            title=f"{paper.name} ({settings.scale}{_moved(settings, ', seeds from ')})",
            workers=workers,
            broken=settings.broken,
        )
        results = Results(settings, jobs, folder)
        return write_report(paper, results, command(paper, settings), workers, cut)


def within(jobs: Sequence[Job], most_steps: int | None) -> tuple[list[Job], dict[int, list[str]]]:
    """Cut training runs to so many steps; return the jobs and the arms cut, by their length.

    Raises:
        UserError: a config does not go with so few steps.
    """
    if most_steps is None:
        return list(jobs), {}
    made, cut = [], {}
    for job in jobs:
        shorter, whole = job.within(most_steps)
        made.append(shorter)
        if whole is not None and job.arm not in cut.setdefault(whole, []):
            cut[whole].append(job.arm)
    return made, cut


def check(paper: Paper, settings: Settings) -> None:
    """Raise UserError where the settings do not fit the paper."""
    if settings.scale not in SCALES:
        raise UserError(f"--scale: got {settings.scale!r}, expected {' or '.join(SCALES)}.")
    if settings.seeds < 2:
        raise UserError(f"--seeds: got {settings.seeds}, expected at least 2 for an interval.")
    if settings.seeds > MOST_SEEDS:
        raise UserError(f"--seeds: got {settings.seeds}, expected at most {MOST_SEEDS}.")
    if settings.first_seed < 0:
        raise UserError(f"--first-seed: got {settings.first_seed}, expected 0 or more.")
    if settings.most_steps is not None and settings.most_steps < 1:
        raise UserError(f"--most-steps: got {settings.most_steps}, expected at least 1.")
    for name, path in settings.data.items():
        if name not in paper.data:
            known = ", ".join(paper.data) or "none: its data is made or ships with packages"
            raise UserError(f"--data {name}: {paper.name} takes {known}.")
        if not Path(path).exists():
            raise UserError(f"--data {name}={path}: there is no such file or folder.")


def default_folder(paper: Paper, settings: Settings) -> Path:
    """Return `runs/reproduce/<name>-<scale>`, another one for a broken run or moved seeds."""
    part = "" if settings.most_steps is None else f"-{settings.most_steps}"
    part += _moved(settings, "-from-")
    broken = "-broken" if settings.broken else ""
    return Path("runs") / "reproduce" / f"{paper.name}-{settings.scale}{part}{broken}"


def _moved(settings: Settings, word: str) -> str:
    """Return where the seeds begin, after a word; "" where they begin as ever."""
    return f"{word}{settings.first_seed}" if settings.first_seed else ""


def command(paper: Paper, settings: Settings) -> str:
    """Return the command that asks for this; of the data only the names, no one's folders."""
    words: Sequence[str] = [
        "python",
        "-m",
        "train.reproduce",
        paper.name,
        "--scale",
        settings.scale,
        *(["--seeds", str(settings.seeds)] if settings.seeds != Settings.seeds else []),
        *(["--first-seed", str(settings.first_seed)] if settings.first_seed else []),
        *([] if settings.most_steps is None else ["--most-steps", str(settings.most_steps)]),
        *(f"--data {name}=PATH" for name in settings.data),
        *(["--break", "penalty"] if settings.broken else []),
    ]
    return " ".join(word if " " in word else shlex.quote(word) for word in words)
