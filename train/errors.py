"""What ends a command early, each with its exit code and one message for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_MESSAGE_LIMIT = 1400


class UserError(Exception):
    """Bad input: what came, what was expected, what to do. Exit code 2."""

    exit_code = 2

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _MESSAGE_LIMIT:
            text = text[: _MESSAGE_LIMIT - 4] + " ..."
        return text


class ConfigError(UserError):
    """A config key that is unknown, missing, mistyped or out of range."""


class DataError(UserError):
    """A data set that is absent, torn or not what the config says."""


class ArgumentError(UserError, ValueError):
    """An argument of a function of `train` with a value that does not fit."""


class ArgumentTypeError(UserError, TypeError):
    """An argument of a function of `train` that is of another kind."""


class WorkdirError(UserError):
    """A workdir that is in use or belongs to another config."""


class DivergedError(UserError):
    """The loss or a gradient stopped being finite. Exit code 3."""

    exit_code = 3


class OutOfMemory(UserError):
    """A run that does not fit in memory."""


class FailedRun(UserError):
    """A run that raised. Exit code 1: what is done is kept."""

    exit_code = 1


class StorageError(UserError):
    """The disk is full or refuses to be written; what was written stays. Exit code 4."""

    exit_code = 4


class CertificateError(UserError):
    """An attack changed a prediction that was certified not to change. Exit code 5."""

    exit_code = 5


class InterruptedRun(UserError):
    """A signal stopped the run after a checkpoint. Exit code 128 + signal number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Interrupted(KeyboardInterrupt):
    """A signal stopped `train.fit` after a checkpoint.

    A KeyboardInterrupt, so that `except Exception` around one call of many does not go on.

    Attributes:
        signal_number: SIGINT's or SIGTERM's.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def reason(error: BaseException, limit: int = 400) -> str:
    """Return what an exception says, in one line and short enough for a message."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and whether there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def foreign(workdir: Path, owner: str, held: Sequence[str]) -> WorkdirError:
    """Return the error of a folder with entries that are not its owner's."""
    return WorkdirError(
        f"--workdir {workdir}: is no folder of {owner} and holds {len(held)} other "
        f"{'entry' if len(held) == 1 else 'entries'} ({some(held)}). Use an empty or a new folder."
    )


def shown(value: object, limit: int = 80) -> str:
    """Return a value's repr, short enough for an error message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + " ..."
