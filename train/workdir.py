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
from train.errors import ConfigError, UserError, WorkdirError
from train.penalties import PENALTIES
from train.sections import Config
from train.tables import read_tables

LOCK = ".lock"
# What runs and reproductions leave.
_RECORDS = (records.METRICS, "checkpoints", "claims.json", "plan.json")


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make the folder and hold it for one run.

    The lock is the kernel's: it goes with the process, however that ends.

    Raises:
        WorkdirError: another run holds it, or the folder cannot be made.
    """
    is_new = not workdir.exists()
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
            if is_new:
                _leave_nothing(workdir)
            raise
    finally:
        os.close(descriptor)


def _leave_nothing(workdir: Path) -> None:
    """Take away a folder in which nothing was written: bad input leaves no trace."""
    with suppress(OSError):
        if [path.name for path in workdir.iterdir()] == [LOCK]:
            (workdir / LOCK).unlink()
            workdir.rmdir()


def continued(workdir: Path, config: Config) -> tuple[Config, list[str]]:
    """Return the config as the folder goes on with it.

    Returns:
        The config, with what an earlier run in the folder chose; and what changed in
        `[parallel]`, which is no part of what a run computes.

    Raises:
        WorkdirError: it belongs to another config, or it is not clear what made its records.
    """
    path = workdir / records.CONFIG
    if not path.exists():
        made = [name for name in _RECORDS if (workdir / name).exists()]
        if made:
            raise WorkdirError(
                f"--workdir {workdir}: holds {', '.join(made)} but no {records.CONFIG}, so it is "
                "not clear what made them. Use another --workdir."
            )
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
