"""A run's folder: one run at a time, one config for good."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from train import records
from train.choices import choices_of
from train.config import GIVEN, differences, dump, parse
from train.errors import ConfigError, UserError, WorkdirError, foreign
from train.penalties import PENALTIES
from train.sections import Config
from train.tables import read_tables

LOCK = ".lock"
# What runs and reproductions leave.
_RECORDS = (records.METRICS, "checkpoints", "claims.json", "plan.json")
# What may stand in a run's folder before its config: of a job, of a run that was killed.
_BEFORE = ("job.json", "log.txt", records.ENVIRONMENT)


def check_free(workdir: Path) -> None:
    """Raise unless a run may begin in a folder, or go on: it is new, empty or a run's.

    Hidden files are nobody's.

    Raises:
        WorkdirError: it holds what no run wrote.
    """
    try:
        names = sorted(path.name for path in workdir.iterdir())
    except OSError:  # not there, or told of where it is made
        return
    if records.CONFIG in names:
        return
    held = [name for name in names if not name.startswith(".") and name not in _BEFORE]
    made = [name for name in _RECORDS if name in held]
    if made:
        raise WorkdirError(
            f"--workdir {workdir}: holds {', '.join(made)} but no {records.CONFIG}, so it is "
            "not clear what made them. Use another --workdir."
        )
    if held:
        raise foreign(workdir, "a run", held)


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make the folder and hold it for one run.

    The lock is the kernel's: it goes with the process, however that ends.

    Raises:
        WorkdirError: another run holds it, or the folder cannot be made.
    """
    is_new = not workdir.exists()
    before = _names(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WorkdirError(
            f"--workdir {workdir}: cannot be used as a folder ({error.strerror})."
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise WorkdirError(
                f"--workdir {workdir}: another run is using it (process {holder}). Wait for it, "
                "or give this one a workdir of its own: --workdir DIR."
            ) from None
        with suppress(OSError):  # a full disk is told of where something is lost by it
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        records.clear_partial(workdir)
        try:
            yield
        except UserError:
            if _names(workdir) - before == {LOCK}:
                _leave_nothing(workdir, is_new)
            raise
    finally:
        os.close(descriptor)


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def _leave_nothing(workdir: Path, is_new: bool) -> None:
    """Leave a folder in which nothing was written as it was: bad input leaves no trace."""
    with suppress(OSError):
        (workdir / LOCK).unlink()
        if is_new:
            workdir.rmdir()


def continued(workdir: Path, config: Config) -> tuple[Config, list[str]]:
    """Return the config as the folder goes on with it.

    Returns:
        The config, with what an earlier run in the folder chose; and what changed in
        `[parallel]`, which is no part of what a run computes.

    Raises:
        WorkdirError: it belongs to another config.
    """
    if not (workdir / records.CONFIG).exists():
        return config, []
    try:
        old = recorded_config(workdir, config)
    except ConfigError as error:
        raise WorkdirError(
            f"--workdir {workdir}: its {records.CONFIG} does not parse ({error}). "
            "Use another --workdir, or remove this one."
        ) from None
    config = choices_of(old, config)
    listed = differences(old, config)
    if config.model.given is not None:  # train.fit names a run by its folder, which may be moved
        listed = [line for line in listed if not line.startswith("experiment.name:")]
    devices = [line for line in listed if line.startswith("parallel.")]
    changed = [line for line in listed if line not in devices]
    if changed:
        listed = "; ".join(changed[:8]) + (" ..." if len(changed) > 8 else "")
        raise WorkdirError(
            f"--workdir {workdir}: belongs to a run of another config. Changed: {listed}. "
            "Use another --workdir, or undo the change to go on with that run."
        )
    return config, devices


def recorded_config(workdir: Path, config: Config) -> Config:
    """Return the config that a folder records; what Python gave is that of `config`.

    Raises:
        ConfigError: there is none, or it does not parse.
    """
    path = workdir / records.CONFIG
    tables = read_tables(path)
    given = config.optimizer.given is not None and tables.get("optimizer") == {"name": GIVEN}
    if given:
        del tables["optimizer"]
    labels = {}
    if config.data.given is not None:
        for index, table in enumerate(tables.get("penalty", [])):
            if table.get("name") not in PENALTIES:
                # A callable's: any row without options takes its place while the rest is parsed.
                labels[index], table["name"] = table.get("name"), "jacobian"
    old = parse(tables, str(path))
    penalty = tuple(
        replace(each, name=str(labels.get(index, each.name)))
        for index, each in enumerate(old.penalty)
    )
    return replace(old, penalty=penalty, optimizer=config.optimizer if given else old.optimizer)


def record_config(workdir: Path, config: Config) -> None:
    """Write the resolved config, once it has shown that data and model can be made from it."""
    text = dump(config)
    if any(each.given is not None for each in (config.data, config.model, *config.penalty)):
        text = f"# Written by train.fit: the same call goes on with it, no command.\n\n{text}"
    records.write_bytes(workdir / records.CONFIG, text.encode())
