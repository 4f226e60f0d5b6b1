"""Kill a training command at random moments, start it again, and compare with the quiet run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.robustness._records import ROOT

_LONGEST = 900.0  # seconds that a run may take
_POLL = 0.002
_TRIES = 8  # that a kill gets to come before the run is over
_GOES_ON = "goes on from the checkpoint of step"


class Subject(NamedTuple):
    """A config that is killed, with the overrides that give it steps to be killed in."""

    name: str
    config: str
    overrides: tuple[str, ...]


_QUICK = ("evaluation.jacobian=false",)
SUBJECTS = (
    Subject(
        "classification, dropout, Adam",
        "configs/smoke/equinox.toml",
        ("training.steps=3000", "training.log_every=30", "training.eval_every=500",
         "training.checkpoint_every=100", "evaluation.pgd=[]", "evaluation.decision_cells=false"),
    ),
    Subject(
        "classification, BatchNorm and dropout",
        "configs/smoke/batch-norm.toml",
        ("training.steps=300", "training.log_every=5", "training.eval_every=0",
         "training.checkpoint_every=10", "model.dropout=0.2", *_QUICK),
    ),
    Subject(
        "autoencoder, two phases",
        "configs/smoke/autoencoder.toml",
        ("training.steps=2000", "task.pretrain_steps=900", "training.log_every=50",
         "training.eval_every=400", "training.checkpoint_every=100"),
    ),
    Subject(
        "score, exact trace",
        "configs/smoke/score.toml",
        ("training.steps=2000", "training.log_every=20", "training.eval_every=250",
         "training.checkpoint_every=75"),
    ),
    Subject(
        "flow, two penalties",
        "configs/smoke/flow.toml",
        ("training.steps=1200", "training.log_every=40", "training.eval_every=300",
         "training.checkpoint_every=60", "task.grid=0"),
    ),
)  # fmt: skip


class Moment(NamedTuple):
    """When a run is killed: `after` something is seen, `delay` seconds later."""

    after: str  # the start, a line of metrics, a checkpoint, the begin of one, the last step
    delay: float
    signal: signal.Signals


@dataclass
class Kill:
    """What was done and found at one kill."""

    moment: Moment
    checkpoint: int | None = None
    exit_code: int | None = None
    seconds_to_leave: float = 0.0
    lines: int = 0
    problems: list[str] = field(default_factory=list)


def draw_moments(rng: random.Random, count: int) -> list[Moment]:
    """Return moments: the first before there can be a checkpoint, one in six by SIGTERM."""
    moments = [Moment("start", rng.uniform(0.0, 6.0), signal.SIGKILL)]
    kinds = ("checkpoint", "line", "writing", "line", "start")
    for number in range(1, count):
        after = kinds[(number - 1) % len(kinds)] if number < count - 1 else "evaluating"
        longest = {"writing": 0.05, "start": 8.0, "evaluating": 0.3}.get(after, 0.8)
        which = signal.SIGTERM if number % 6 == 4 else signal.SIGKILL
        moments.append(Moment(after, rng.uniform(0, longest), which))
    return moments


class Run:
    """The training command on one workdir."""

    def __init__(self, subject: Subject, workdir: Path) -> None:
        self.workdir = workdir
        self.command = [sys.executable, "-m", "train", str(ROOT / subject.config)]
        self.command += [*subject.overrides, "--workdir", str(workdir)]
        self.output = workdir.with_suffix(".out")

    def start(self) -> subprocess.Popen[bytes]:
        """Start or go on."""
        with self.output.open("wb") as file:
            return subprocess.Popen(self.command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)

    def finish(self) -> dict[str, Any]:
        """Start or go on, to the end; return the summary."""
        code = self.start().wait(_LONGEST)
        if code != 0:
            raise RuntimeError(f"exit code {code}: {self.output.read_text()[-600:]}")
        return json.loads((self.workdir / "summary.json").read_text())

    def metrics(self) -> bytes:
        """Return the bytes of `metrics.jsonl`."""
        path = self.workdir / "metrics.jsonl"
        return path.read_bytes() if path.exists() else b""

    def checkpoints(self) -> list[int]:
        """Return the steps that have a checkpoint."""
        folder = self.workdir / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def writing(self) -> set[int]:
        """Return the checkpoints that are being written, or were when the run was killed."""
        folder = self.workdir / "checkpoints"
        parts = folder.glob(".*.partial") if folder.is_dir() else ()
        found = set()
        for part in parts:
            with suppress(OSError):  # it may be finished by now
                found.add(part.stat().st_ino)
        return found

    def said(self) -> str:
        """Return what the command printed."""
        return self.output.read_text(errors="replace")


def kill(run: Run, moment: Moment) -> Kill:
    """Start the run, kill it at the moment, and look at what it left."""
    done = Kill(moment)
    had, lines, parts = run.checkpoints(), len(run.metrics()), run.writing()
    process = run.start()
    for _ in _until(process):
        seen = {
            "start": lambda: True,
            "line": lambda: len(run.metrics()) > lines,
            "checkpoint": lambda: run.checkpoints() != had,
            "writing": lambda: bool(run.writing() - parts),
            "evaluating": lambda: ": evaluating" in run.said(),
        }
        if seen[moment.after]():
            break
    try:
        process.wait(moment.delay)
    except subprocess.TimeoutExpired:
        process.send_signal(moment.signal)
    sent = time.monotonic()
    done.exit_code = process.wait(_LONGEST)
    done.seconds_to_leave = time.monotonic() - sent
    done.checkpoint = max(run.checkpoints(), default=None)
    done.lines = run.metrics().count(b"\n")
    if done.exit_code == 0:
        return done
    expected = -signal.SIGKILL if moment.signal == signal.SIGKILL else 128 + signal.SIGTERM
    # Before Python has set its handlers SIGTERM ends it as it ends any process.
    if done.exit_code not in (expected, -signal.SIGTERM if moment.after == "start" else expected):
        done.problems.append(f"exit code {done.exit_code}, expected {expected}")
    said = run.said()
    if (begin := said.find("Traceback")) >= 0:
        around = said[max(begin - 200, 0) : begin + 2000]
        done.problems.append(f"a traceback: {around}")
    if had and "  step " in said and _GOES_ON not in said:
        done.problems.append("started from zero")
    return done


def _until(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Yield until the process ends, again and again."""
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < _LONGEST:
        yield
        time.sleep(_POLL)


def try_subject(subject: Subject, count: int, rng: random.Random, folder: Path) -> dict[str, Any]:
    """Kill one run `count` times, finish it, and compare it with the undisturbed run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    quiet, disturbed = Run(subject, folder / "quiet"), Run(subject, folder / "disturbed")
    expected, whole = quiet.finish(), quiet.metrics()
    kills, problems = [], []
    for moment in draw_moments(rng, count):
        for tried in range(_TRIES):
            done = kill(disturbed, moment._replace(delay=moment.delay / 2**tried))
            if done.exit_code != 0:
                break
            # The run was over before. It begins anew, and the kill comes earlier.
            problems += _other_than(disturbed, expected, whole)
            shutil.rmtree(disturbed.workdir)
        else:
            done.problems.append(f"the run was over before, {_TRIES} times")
        kept = _up_to(disturbed.metrics(), done.checkpoint)
        if not whole.startswith(kept):
            done.problems.append("records before the checkpoint are not those of the quiet run")
        kills.append(done)
        print(f"  {subject.name}: {_told(done)}", flush=True)
    had = disturbed.checkpoints()
    disturbed.finish()
    problems += [problem for done in kills for problem in done.problems]
    if had and _GOES_ON not in disturbed.said():
        problems.append("the last start was from zero")
    problems += _other_than(disturbed, expected, whole)
    return {
        "subject": subject.name,
        "config": subject.config,
        "steps": expected["steps"],
        "params_sha256": expected["params_sha256"],
        "lines": whole.count(b"\n"),
        "problems": problems,
        "kills": [
            {
                "after": done.moment.after,
                "delay": round(done.moment.delay, 3),
                "signal": done.moment.signal.name,
                "checkpoint": done.checkpoint,
                "lines": done.lines,
                "exit_code": done.exit_code,
                "seconds_to_leave": round(done.seconds_to_leave, 2),
                "problems": done.problems,
            }
            for done in kills
        ],
    }


def _other_than(run: Run, expected: dict[str, Any], whole: bytes) -> list[str]:
    """Return in what a finished run differs from the quiet one."""
    found = json.loads((run.workdir / "summary.json").read_text())
    problems = []
    if found["params_sha256"] != expected["params_sha256"]:
        problems.append("other parameters")
    if found["metrics"] != expected["metrics"]:
        problems.append("other final metrics")
    if run.metrics() != whole:
        problems.append("other metrics.jsonl")
    left = [path.name for path in run.workdir.rglob("*.partial")]
    if left:
        problems.append(f"left behind: {left[:3]}")
    return problems


def _up_to(metrics: bytes, step: int | None) -> bytes:
    """Return the whole lines up to a step."""
    kept = []
    for line in metrics.splitlines(keepends=True):
        if step is None or not line.endswith(b"\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    return b"".join(kept)


def _told(done: Kill) -> str:
    return (
        f"{done.moment.signal.name} after {done.moment.after} + {done.moment.delay:.2f} s, "
        f"newest checkpoint {done.checkpoint}, exit {done.exit_code}"
        + (f", PROBLEMS {done.problems}" if done.problems else "")
    )


def run_kills(
    folder: Path, count: int = 30, seed: int = 0, subjects: Sequence[Subject] = SUBJECTS
) -> dict[str, Any]:
    """Kill `count` times over the subjects; return the record."""
    rng = random.Random(seed)
    os.environ.setdefault("JACREG_CACHE", str(folder / "cache"))
    shares = [count // len(subjects) + (i < count % len(subjects)) for i in range(len(subjects))]
    found = [
        try_subject(subject, share, rng, folder / f"run-{number}")
        for number, (subject, share) in enumerate(zip(subjects, shares, strict=True))
    ]
    kills = [each for subject in found for each in subject["kills"]]
    return {
        "seed": seed,
        "kills": len(kills),
        "after_a_checkpoint": sum(each["checkpoint"] is not None for each in kills),
        "by_sigterm": sum(each["signal"] == "SIGTERM" for each in kills),
        "longest_to_leave": max(each["seconds_to_leave"] for each in kills),
        "failed_runs": sum(bool(subject["problems"]) for subject in found),
        "subjects": found,
    }
