"""SIGINT and SIGTERM: at once where nothing would be lost, else at the next safe place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop(BaseException):
    """A signal came where leaving at once loses nothing.

    Like KeyboardInterrupt no Exception, so that no library on the way swallows it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Interrupt:
    """While entered, the first of the signals asks the run to stop; a second one acts as usual.

    The first one raises `Stop` where it comes; inside `deferred` it is only remembered, in
    `received`, for the loop to act on.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}
        self._deferred = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a signal wait: what is inside must not be cut."""
        with self._set(True):
            yield

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside `deferred`, let a signal raise `Stop` again, also one that came before."""
        if self._deferred and self.received is not None:
            raise Stop(self.received)
        with self._set(False):
            yield

    @contextmanager
    def _set(self, deferred: bool) -> Iterator[None]:
        before, self._deferred = self._deferred, deferred
        try:
            yield
        finally:
            self._deferred = before

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        if not self._deferred:
            raise Stop(number)

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # pyright: ignore[reportArgumentType]
        self._previous.clear()
