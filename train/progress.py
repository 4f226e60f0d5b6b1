"""What a run shows: a bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from train.command import say_no_more


class Output(Console):
    """A console on stdout. Where its reader leaves, as `head` does, it is silent from then on."""

    def on_broken_pipe(self) -> None:
        """Go on: a run is worth more than what is said of it."""
        self.quiet = True
        say_no_more()


# Where there is no bar, an evaluation says how far it is after as many silent seconds.
_SILENT = 30.0


class Reporter:
    """Tells the user of steps, evaluations, messages and results, on stdout.

    Colours and the bar are for terminals, and colours not where NO_COLOR is set (rich).
    """

    def __init__(self, title: str, steps: int, quiet: bool = False, estimates: bool = True) -> None:
        """Prepare.

        Args:
            estimates: whether the bar tells the time that is left, by the steps.
        """
        self.title = title
        self.steps = steps
        self.console = Output(soft_wrap=True, quiet=quiet)
        if not self.console.is_terminal:
            self.console.width = 120
        self._bar: Progress | None = None
        self._task: Any = None
        self._said = time.monotonic()
        self._estimates = estimates

    def __enter__(self) -> Reporter:
        if self.console.is_terminal and not self.console.quiet:
            self._bar = bar = Progress(
                TextColumn(self.title),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                *([TimeRemainingColumn()] if self._estimates else []),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            bar.start()
            self._task = bar.add_task(self.title, total=self.steps, note="compiling")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def has_bar(self) -> bool:
        """Whether a bar is shown."""
        return self._bar is not None

    def advance(self, step: int, loss: float | None = None) -> None:
        """Move the bar; beside it stands the loss, as a mean over the last steps."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        if loss is not None:
            self.note(f"loss {loss:.4g}")

    def note(self, text: str) -> None:
        """Write beside the bar, where there is one."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def evaluated(self, what: str, done: int, total: int) -> None:
        """Tell on how many examples an evaluation has measured `what`, where that takes long."""
        text = f"{what}, {done} of {total} examples"
        if self.has_bar:
            self.note(text)
        elif time.monotonic() - self._said > _SILENT:
            self.say(f"{self.title}: evaluating: {text}")

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a line of metrics."""
        if not self.has_bar:
            listed = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.say(f"{self.title}  step {step}/{self.steps}  {listed}")
        elif "train/loss" in metrics:
            self.note(f"loss {metrics['train/loss']:.4g}")

    def say(self, text: str) -> None:
        """Show a message."""
        self._said = time.monotonic()
        self.console.print(text, markup=False, highlight=False)

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        numbers: bool = True,
    ) -> None:
        """Show a table; cells after the first are numbers, to the right, or text, to the left."""
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            right = numbers and number > 0
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


def shown_metric(name: str, value: float | None) -> str:
    """Return a metric's value as text: accuracies in percent."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if "accuracy" in name else f"{value:.4g}"
