"""Doing the jobs of a plan: several at a time, what is done already left alone, progress over all.

On a CPU each worker has a core of its own: small networks run faster side by side on one thread
each than one after another on all. Elsewhere one worker owns the device.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.reproduce._job import Job, is_done, perform
from train.reproduce._progress import Progress

_LOG = "log.txt"


class FailedJob(UserError):
    """A job that raised. Exit code 1: what is done is kept."""

    exit_code = 1


def run_jobs(
    jobs: Sequence[Job], folder: Path, *, title: str, workers: int, broken: bool = False
) -> int:
    """Do all jobs that are not done, and return how many were.

    Raises:
        FailedJob: one raised; its log is named.
        UserError: bad input of a job, or a folder of another plan.
        KeyboardInterrupt: stopped; what is done is kept.
    """
    done = {job.name for job in jobs if is_done(job, folder / "runs" / job.name, broken)}
    waiting = [job for job in jobs if job.name not in done]
    progress = Progress(title, jobs, done, workers)
    if not waiting:
        progress.say(f"{title}: all {len(jobs)} runs were done already")
        return 0
    workers = max(1, min(workers, len(waiting)))
    progress.begin()
    with progress, _pool(workers) as pool:
        running: dict[Future[float], Job] = {}
        try:
            while waiting or running:
                ready = [job for job in waiting if set(job.needs) <= done]
                for job in ready[: workers - len(running)]:
                    waiting.remove(job)
                    running[pool.submit(_work, job, folder, broken)] = job
                    progress.started(job)
                if not running:
                    needed = sorted(set().union(*(job.needs for job in waiting)) - done)
                    raise AssertionError(f"no job of the plan makes {', '.join(needed)}")
                finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    progress.finished(job, _outcome(future, job, folder))
                    done.add(job.name)
                progress.tick()
        except BaseException:
            _stop(pool)
            raise
    return len(jobs) - len(progress.before)


def _pool(workers: int) -> ProcessPoolExecutor:
    # A forked JAX hangs; a spawned one starts clean.
    context = get_context("spawn")
    shares = context.Queue()
    for share in _shares(workers):
        shares.put(share)
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_settle, initargs=(shares, os.getpid())
    )


def _shares(workers: int) -> list[set[int] | None]:
    """Return the cores of each worker, None where it may use any."""
    if workers == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        return [None] * workers
    return [set(cores[number::workers]) for number in range(workers)]


def _settle(shares: Any, parent: int) -> None:
    """Prepare a worker: its cores, no signals from the terminal, an end when the parent ends."""
    cores = shares.get()
    if cores is not None:
        os.sched_setaffinity(0, cores)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(job: Job, folder: Path, broken: bool) -> float:
    """Do one job in a worker, its output in a log beside its records."""
    from train.run import use_compilation_cache

    use_compilation_cache()
    place = folder / "runs" / job.name
    place.mkdir(parents=True, exist_ok=True)
    with (
        (place / _LOG).open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            return perform(job, place, broken)
        except UserError:
            raise
        except Exception:
            traceback.print_exc()
            raise


def _outcome(future: Future[float], job: Job, folder: Path) -> float:
    try:
        return future.result()
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from None
    except BrokenProcessPool:
        raise FailedJob(
            f"{job.name}: its process ended (killed, or out of memory). What is done is kept; the "
            "same command goes on. --workers 1 needs less memory."
        ) from None
    except Exception as error:
        log = folder / "runs" / job.name / _LOG
        raise FailedJob(
            f"{job.name} failed: {type(error).__name__}: {str(error)[:300]}\n"
            f"The whole story is in {log}. What is done is kept; the same command goes on."
        ) from error


def _stop(pool: ProcessPoolExecutor) -> None:
    """Stop the workers at once: each run keeps its checkpoints, and begins again from them."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        with contextlib.suppress(OSError, ValueError):
            process.kill()


def default_workers() -> int:
    """Return as many workers as cores on a CPU, one where there is an accelerator."""
    if "cpu" not in os.environ.get("JAX_PLATFORMS", "cpu") or _has_accelerator():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(8, len(os.sched_getaffinity(0))))
    return max(1, min(8, os.cpu_count() or 1)) if sys.platform != "win32" else 1


def _has_accelerator() -> bool:
    """Return whether JAX would use one; asked without starting it in this process."""
    from importlib.metadata import distributions

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    names = {(found.metadata["Name"] or "").lower() for found in distributions()}
    return any(name.startswith(("jax-cuda", "jax-rocm", "libtpu")) for name in names)
