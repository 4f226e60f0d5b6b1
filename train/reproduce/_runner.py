"""Doing the jobs of a plan: several at a time, what is done already left alone, progress over all.

On a CPU each worker has a core of its own: small networks run faster side by side on one thread
each than one after another on all. Elsewhere one worker owns the device.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from train import records
from train.errors import FailedRun, OutOfMemory, StorageError, UserError, reason
from train.interrupt import interrupt_held
from train.reproduce._folder import claim_folder
from train.reproduce._job import FAILED, LOG, Job, is_done, perform, record_failure
from train.reproduce._progress import Progress


def run_jobs(
    jobs: Sequence[Job], folder: Path, *, title: str, workers: int, broken: bool = False
) -> int:
    """Try all jobs that are not done, and return how many were tried.

    One that fails is recorded as such beside its log and the others go on; what needs it fails too.

    Raises:
        UserError: bad input of a job, a full disk, or a folder of another plan.
        KeyboardInterrupt: stopped; what is done is kept.
    """
    done = {job.name for job in jobs if is_done(job, folder / "runs" / job.name, broken)}
    claim_folder(folder, title)
    waiting = [job for job in jobs if job.name not in done]
    progress = Progress(title, jobs, done, workers)
    if not waiting:
        progress.say(f"{title}: all {len(jobs)} runs were done already")
        return 0
    progress.begin()
    with progress:
        _Plan(waiting, done, folder, progress, broken).work(max(1, min(workers, len(waiting))))
    return len(jobs) - len(progress.before)


def run_all_jobs(jobs: Sequence[Job], folder: Path, *, title: str, workers: int) -> int:
    """As `run_jobs`, for who needs the numbers of every run.

    Raises:
        FailedRun: one failed; its log is named.
    """
    count = run_jobs(jobs, folder, title=title, workers=workers)
    for job in jobs:
        place = folder / "runs" / job.name
        summary = records.read_json(place / records.SUMMARY) or {}
        if summary.get("status") == FAILED:
            raise FailedRun(
                f"{job.name} failed: {summary['reason']}. Its log is {place / LOG}. What is done "
                "is kept; the same command tries it again."
            )
    return count


class _Plan:
    """The jobs that are left, and what became of the others."""

    def __init__(
        self, waiting: list[Job], done: set[str], folder: Path, progress: Progress, broken: bool
    ) -> None:
        self.waiting, self.done, self.failed = waiting, done, set[str]()
        self.folder, self.progress, self.broken = folder, progress, broken
        self.suspects: list[Job] = []

    def work(self, workers: int) -> None:
        """Take the jobs, several at a time.

        Where a process ends, nobody knows which of the jobs under way ended it: each is tried
        again alone, and is to blame if that ends too.
        """
        while self.waiting or self.suspects:
            if self.suspects:
                job = self.suspects.pop(0)
                if self._take(1, [job]):
                    self._fail(job, "its process ended (killed, or out of memory)")
            else:
                self.suspects = self._take(workers, self.waiting)

    def _take(self, workers: int, waiting: list[Job]) -> list[Job]:
        """Take jobs until none waits; return those under way when a process ended."""
        with _pool(workers) as pool:
            running: dict[Future[float], Job] = {}
            try:
                while waiting or running:
                    self._submit(pool, workers, waiting, running)
                    finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in finished:
                        job = running[future]
                        self._note(job, future)
                        del running[future]
            except BrokenProcessPool:
                _stop(pool)
                for job in running.values():
                    self.progress.dropped(job)
                return list(running.values())
            except BaseException:
                _stop(pool)
                raise
        return []

    def _submit(
        self, pool: ProcessPoolExecutor, workers: int, waiting: list[Job], running: dict[Any, Job]
    ) -> None:
        for job in [each for each in waiting if self.failed.intersection(each.needs)]:
            waiting.remove(job)
            needed = ", ".join(sorted(self.failed.intersection(job.needs)))
            self.progress.started(job)
            self._fail(job, f"it needs {needed}, which failed")
        ready = [job for job in waiting if set(job.needs) <= self.done]
        for job in ready[: workers - len(running)]:
            with interrupt_held():  # the first call starts the workers
                future = pool.submit(_work, job, self.folder, self.broken)
            running[future] = job
            waiting.remove(job)
            self.progress.started(job)
        stuck = [job for job in waiting if not self.failed.intersection(job.needs)]
        if stuck and not running:
            needed = sorted(set().union(*(job.needs for job in stuck)) - self.done)
            raise AssertionError(f"no job of the plan makes {', '.join(needed)}")

    def _note(self, job: Job, future: Future[float]) -> None:
        try:
            seconds = future.result()
        except (BrokenProcessPool, StorageError):
            raise
        except OutOfMemory as error:
            self._fail(job, str(error))
        except UserError as error:
            raise UserError(f"{job.name}: {error}") from None
        except Exception as error:
            self._fail(job, f"{type(error).__name__}: {reason(error, 300)}")
        else:
            self.done.add(job.name)
            self.progress.finished(job, seconds)

    def _fail(self, job: Job, reason: str) -> None:
        place = self.folder / "runs" / job.name
        record_failure(place, reason)
        self.failed.add(job.name)
        self.progress.failed(job, f"{reason}. Its log: {place / LOG}")


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
        (place / LOG).open("a") as log,
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
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def _has_accelerator() -> bool:
    """Return whether JAX would use one; asked without starting it in this process."""
    from importlib.metadata import distributions

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    names = {(found.metadata["Name"] or "").lower() for found in distributions()}
    return any(name.startswith(("jax-cuda", "jax-rocm", "libtpu")) for name in names)
