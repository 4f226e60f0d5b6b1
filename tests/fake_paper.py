"""A paper whose runs take no time: numbers that are known, a run that fails, one that waits."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from train.reproduce import (
    Claim,
    Paper,
    Table,
    correlation,
    difference,
    exact,
    mean,
    measurement,
    ratio,
)


def number(asked, *, level):
    """Return `level` with a seed's own part; without its penalty, that of level 1."""
    with (asked.folder / "calls").open("a") as file:
        file.write("x")
    level = 1.0 if asked.broken else level
    return {"value": level * (1 + 0.01 * asked.seed), "many": np.arange(3.0) + level}


def total(asked, *, arms):
    """Add what other jobs recorded."""
    import json

    found = [
        json.loads((asked.runs / arm / str(asked.seed) / "summary.json").read_text())
        for arm in arms
    ]
    return {"value": sum(each["metrics"]["value"] for each in found)}


def fail(asked):
    """Raise, unless the file beside the runs says not to."""
    if not (asked.folder.parents[2] / "mended").exists():
        raise RuntimeError("this one breaks")
    return {"value": 0.0}


def wait(asked):
    """Tell that it began, then wait to be killed."""
    (asked.folder.parents[2] / "began").write_text(str(os.getpid()))
    time.sleep(60)
    return {"value": 0.0}


def die(asked):
    """End the process as a kill does, the first time."""
    mark = asked.folder.parents[2] / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": 1.0}


def always(asked):
    """End the process as a kill does, every time."""
    os.kill(os.getpid(), signal.SIGKILL)


EXTRA = {"fail": fail, "wait": wait, "die": die, "always": always}


def paper(extra=(), needing=None):
    """Return the paper, with jobs of `EXTRA` besides and claims that need one of them."""

    def jobs(settings):
        seeds, parts = settings.each_seed, ["low", "deep/high"]
        return [
            # First in the plan, last to be done.
            *measurement("sum", seeds, total, needs=parts, arms=parts),
            *measurement("low", seeds, number, level=1.0),
            *measurement("deep/high", seeds, number, level=3.0),
            *(job for name in extra for job in measurement(name, [0], EXTRA[name])),
        ]

    def about_extra():
        if needing is None:
            return []
        value = exact(lambda results: results.metric(needing, "value")[0], "read")
        # Leaves out what is not a number, as a paper may.
        quiet = exact(lambda results: np.nansum(results.metric(needing, "value")), "summed")
        return [
            Claim("failing", "It is small.", "here", 0.0, value, below=1.0),
            Claim("quiet", "Their sum is small.", "here", 0.0, quiet, below=1.0),
        ]

    def claims(settings):
        return [
            *about_extra(),
            Claim(
                "higher",
                "High is above low.",
                "table 1",
                2.0,
                difference("value", "deep/high", "low"),
                above=0.0,
                about_penalty=True,
            ),
            Claim(
                "thrice",
                "High is three times low.",
                "table 1",
                3.0,
                ratio("value", "deep/high", "low"),
                above=2.9,
                below=3.1,
                about_penalty=True,
            ),
            Claim(
                "tie",
                "Low is above itself.",
                "nowhere",
                "higher",
                difference("value", "low", "low"),
                above=0.0,
            ),
            Claim(
                "mean",
                "Low is about 1.",
                "table 1",
                "about 1",
                mean("value", "low"),
                above=0.9,
                below=1.1,
            ),
            Claim(
                "sum",
                "Needs are met.",
                "table 1",
                4.0,
                exact(lambda results: results.metric("sum", "value")[0], "added"),
                above=1.9,
            ),
            Claim(
                "rank",
                "The seeds rise.",
                "figure",
                "rise",
                correlation(lambda results: (np.arange(12), np.arange(12) ** 2), "numbers"),
                above=0.5,
            ),
        ]

    def tables(results):
        cells = [[arm, f"{results.metric(arm, 'value').mean():.2f}"] for arm in results.arms]
        return [Table("Values | all", ["arm", "value"], cells, "A note.")]

    def figures(results, folder):
        Path(folder / "made.png").write_bytes(b"png")
        first = results.settings.first_seed
        assert results.arrays("low", first)["many"].tolist() == [1.0, 2.0, 3.0]
        return [("made.png", "A caption.")]

    return Paper(
        name="fake2000",
        title="A paper that is not",
        reference="Nobody 2000",
        scales={"quick": "It is quick.", "full": "It is full."},
        jobs=jobs,
        claims=claims,
        tables=tables,
        figures=figures,
        data={"shapes": "some shapes"},
        left_out=lambda settings: ("Everything else.",),
    )


def shielded(asked):
    """Tell whether this process was started so that it never gets a Ctrl-C."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return {"value": float(signal.SIGINT in held)}
