"""A signal stops a run wherever it comes, and is never printed."""

import os
import signal
import sys
import time

import pytest

from train.interrupt import Interrupt, Stop, Terminated, terminated


class _Signalled:
    """Its finaliser gets a signal: an exception raised there cannot leave it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        for _ in range(1000):  # the handler runs within
            pass


def _wait_behind(lasts: list[_Signalled]) -> None:
    ended = time.monotonic() + 20
    del lasts[0]
    while time.monotonic() < ended:
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("inside", ["nothing", "at_once"])
def test_a_signal_in_a_finaliser_stops_the_run(number, inside, capfd):
    hook = sys.unraisablehook

    def wait_within(interrupt: Interrupt) -> None:
        with interrupt.deferred(), interrupt.at_once():
            _wait_behind(lasts)

    lasts = [_Signalled(number)]
    with Interrupt() as interrupt, pytest.raises(Stop) as stopped:
        _wait_behind(lasts) if inside == "nothing" else wait_within(interrupt)
    assert stopped.value.signal_number == interrupt.received == number
    assert "Stop" not in capfd.readouterr().err
    assert sys.unraisablehook == hook
    assert signal.getsignal(number) is not interrupt._note


def test_sigterm_in_a_finaliser_stops_a_command_of_many_runs(capfd):
    hook = sys.unraisablehook
    lasts = [_Signalled(signal.SIGTERM)]
    with pytest.raises(Terminated), terminated():
        _wait_behind(lasts)
    assert "Terminated" not in capfd.readouterr().err
    assert sys.unraisablehook == hook


def test_another_exception_of_a_finaliser_is_told_as_before():
    class Faulty:
        def __del__(self) -> None:
            raise ValueError("of its own")

    seen = []
    before, sys.unraisablehook = sys.unraisablehook, seen.append
    try:
        with Interrupt():
            Faulty()
    finally:
        sys.unraisablehook = before
    assert [type(each.exc_value) for each in seen] == [ValueError]
