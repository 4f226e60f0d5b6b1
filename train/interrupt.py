"""SIGINT and SIGTERM: at once where nothing would be lost, else at the next safe place."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TypeVar

_Error = TypeVar("_Error", bound=BaseException)

_AGAIN = 0.01  # seconds


class Stop(BaseException):
    """A signal came where leaving at once loses nothing.

    Like KeyboardInterrupt no Exception, so that no library on the way swallows it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM came where Ctrl-C would end a command of many runs, which keeps what is done."""


class Interrupt:
    """While entered, the first of the signals asks the run to stop; a second one acts as usual.

    The first one raises `Stop` where it comes (`sent_again` where that is dropped); inside
    `deferred` it is only remembered, in `received`, for the loop to act on.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}
        self._deferred = False
        self._kept = ExitStack()

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._kept.enter_context(sent_again(Stop, self._sent))
            self._listen()
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()
        self._kept.close()

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

    def _sent(self, stop: Stop) -> int:
        self._listen()
        return stop.signal_number

    def _listen(self) -> None:
        for number in self.signals:
            self._previous[number] = signal.signal(number, self._note)

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # pyright: ignore[reportArgumentType]
        self._previous.clear()


@contextmanager
def sent_again(kind: type[_Error], number: Callable[[_Error], int]) -> Iterator[None]:
    """Within, send a signal once more whose exception was dropped.

    Python prints and drops one that is raised while it is in a finaliser or in a callback of its
    garbage collector (JAX has one).

    Args:
        kind: of the exception that the signal raises.
        number: the signal to send, of that exception; what has to listen to it does so then.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        if not isinstance(error, kind):
            before(unraisable)
            return
        # Later, and not by a `Thread`, whose start waits: what comes here is dropped here.
        _thread.start_new_thread(_send_later, (number(error),))

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


def _send_later(number: int) -> None:
    time.sleep(_AGAIN)
    _thread.interrupt_main(signal.Signals(number))


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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
