"""SIGTERM as Ctrl-C: one clean-up serves both; and Ctrl-C that waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from train.interrupt import Terminated, sent_again


@contextmanager
def terminated() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        with sent_again(Terminated, lambda error: signal.SIGTERM):
            yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Within, Ctrl-C waits, and processes that are started never get it.

    A terminal sends it to all of them, and one that is still starting would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
