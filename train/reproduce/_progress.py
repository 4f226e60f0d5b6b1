"""Progress over a whole plan, with an estimate of what is left: a bar, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from train.reproduce._job import Job

_LINE_EVERY = 15.0  # seconds between lines in a log


class Progress:
    """Tells how many of the jobs are done, which run, and how long the rest will take.

    The estimate is the cost of what is left times the seconds a unit of cost has taken so far,
    over the workers. A log gets a line when time has passed, not one a job.
    """

    def __init__(
        self, title: str, jobs: Sequence[Job], done: Collection[str], workers: int
    ) -> None:
        from train.progress import Reporter

        self.title = title
        self.workers = workers
        self.before = frozenset(done)
        self.total = len(jobs)
        self.count = len(self.before)
        self.left = sum(job.cost for job in jobs if job.name not in self.before)
        self._spent = self._cost = 0.0
        self._running: list[str] = []
        self._said = time.perf_counter()
        self._reporter = Reporter(title, self.total, estimates=False)
        self.say = self._reporter.say

    def __enter__(self) -> Progress:
        self._reporter.__enter__()
        self._show()
        return self

    def __exit__(self, *exc: object) -> None:
        self._reporter.__exit__(*exc)

    def begin(self) -> None:
        """Say what is to come."""
        resumed = f", {self.count} of them done already" if self.count else ""
        self.say(f"{self.title}: {self.total} runs{resumed}; {self.workers} at a time")

    def started(self, job: Job) -> None:
        """Note that a job runs."""
        self._running.append(job.name)
        self._show()

    def finished(self, job: Job, seconds: float) -> None:
        """Note that a job is done."""
        self._running.remove(job.name)
        self.count += 1
        self.left -= job.cost
        self._spent += seconds
        self._cost += job.cost
        self._show()
        if not self._reporter.has_bar and (
            self.count == self.total or time.perf_counter() - self._said > _LINE_EVERY
        ):
            self._said = time.perf_counter()
            self.say(f"{self.title}: {self.count} of {self.total} runs, {self.remaining()}")

    def failed(self, job: Job, reason: str) -> None:
        """Note that a job failed; the plan goes on."""
        if job.name in self._running:
            self._running.remove(job.name)
        self.count += 1
        self.left -= job.cost
        self.say(f"{self.title}: {job.name} FAILED: {reason}")
        self._show()

    def dropped(self, job: Job) -> None:
        """Note that a job stopped on the way; it will be tried again."""
        self._running.remove(job.name)
        self._show()

    def remaining(self) -> str:
        """Return the estimate in words."""
        if self.count == self.total:
            return "all done"
        if self._cost == 0:
            return "no estimate yet"
        seconds = self.left * self._spent / self._cost / self.workers
        return (
            f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"
        )

    def _show(self) -> None:
        self._reporter.advance(self.count)
        self._reporter.note(f"{self.remaining()}  {', '.join(self._running)}")
