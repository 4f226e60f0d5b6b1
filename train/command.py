"""What a command of `train` says on stdout, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from train.errors import UserError
from train.interrupt import Terminated

_INTERRUPTED, _TERMINATED = 130, 143


def ended(run: Callable[[], int | None], *, stopped: str | None = None) -> int:
    """Return a command's exit code; what ends it early is one message on stderr.

    Args:
        run: returns the exit code, or None for 0.
        stopped: said after a signal, where the same command goes on; else the signal passes.
    """
    try:
        return run() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        if stopped is None:
            raise
        print(f"error: {stopped}; the same command goes on.", file=sys.stderr)
        return _TERMINATED if isinstance(stop, Terminated) else _INTERRUPTED


def say(text: str) -> None:
    """Print, also to a reader that has enough before the end, as `head` has."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        say_no_more()


def say_no_more() -> None:
    """Let what is printed from here on go nowhere: who read it has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave(main: Callable[[], int], *, at_once: bool = False) -> None:
    """Call a command's `main` and leave with its exit code, whenever Ctrl-C comes.

    What is left once the code is known, threads and libraries that shut down, is worth no
    traceback: from then on the signal is ignored.

    Args:
        main: returns the exit code.
        at_once: after a signal, end without that: the computation that it cut may be under way in
            threads of XLA, which then crash.
    """
    code = _INTERRUPTED
    try:
        code = main()
    except KeyboardInterrupt:
        pass
    except SystemExit as left:  # of argparse
        _ignore_signal()
        sys.exit(left.code)
    _ignore_signal()
    if at_once and code > 128 and not _has_hosts():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _ignore_signal() -> None:
    while True:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            continue
        return


def _has_hosts() -> bool:
    """Return whether other processes wait for this one to take its leave."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
