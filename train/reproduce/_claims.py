"""Claims as data: a sentence, the paper's number or ordering, a statistic, and where it must lie.

A claim holds when the whole 95 % interval of its statistic lies strictly inside the region, so
that a tie, or too few seeds to tell, does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from train.reproduce._results import Results, unless_failed
from train.statistics import LEAST_PAIRS, rank_correlation, student_interval

STUDENT = "Student's t over {count} seeds"
PAIRED = "Student's t over {count} pairs of the same seed"


class Estimate(NamedTuple):
    """A statistic with its 95 % interval; `values` are what it was made of."""

    mean: float
    low: float
    high: float
    test: str
    values: tuple[float, ...]


Statistic = Callable[[Results], Estimate]


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Attributes:
        id: unique within the paper.
        claim: the sentence.
        place: where it stands in the paper.
        paper: the paper's number, or its ordering in words.
        statistic: results to an estimate.
        above, below: the region that the interval must lie in, both bounds strict.
        unit: of the estimate.
        about_penalty: whether it must fall when every penalty weight is 0.
        why_not: why it does not hold, where it does not: begins with "our protocol" or "the
            paper", and says what was varied to tell. (A claim that the paper does not make is
            dropped.)
    """

    id: str
    claim: str
    place: str
    paper: float | str
    statistic: Statistic
    above: float = -math.inf
    below: float = math.inf
    unit: str = ""
    about_penalty: bool = False
    why_not: str = ""

    @property
    def region(self) -> list[float | None]:
        """Return `above` and `below`, None for no bound."""
        return [bound if math.isfinite(bound) else None for bound in (self.above, self.below)]


@dataclass(frozen=True)
class Verdict:
    """A claim with what came out."""

    claim: Claim
    estimate: Estimate
    holds: bool
    notes: Sequence[str] = field(default_factory=tuple)

    def record(self) -> dict[str, Any]:
        """Return the entry of `claims.json`."""
        claim, found = self.claim, self.estimate
        return {
            "id": claim.id,
            "claim": claim.claim,
            "place": claim.place,
            "paper": claim.paper,
            "ours": found.mean,
            "interval": [found.low, found.high],
            "holds": self.holds,
            "unit": claim.unit,
            "expected": claim.region,
            "test": found.test,
            "values": list(found.values),
            "about_penalty": claim.about_penalty,
            "why_not": "" if self.holds else claim.why_not,
            "notes": list(self.notes),
        }


def judge(claim: Claim, results: Results) -> Verdict:
    """Return whether a claim holds; one that reads a run that failed does not."""
    found, failed = unless_failed(claim.statistic, results)
    if failed:
        nothing = Estimate(math.nan, math.nan, math.nan, "none: a run failed", ())
        note = f"not known: {_listed(failed)} failed"
        return Verdict(claim, nothing, False, (note,))
    if not all(math.isfinite(value) for value in found[:3]):
        note = "a run that it needs diverged, or a value is not finite"
        return Verdict(claim, found, False, (note,))
    return Verdict(claim, found, claim.above < found.low and found.high < claim.below)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def mean(metric: str, arm: str, *, scale: float = 1.0) -> Statistic:
    """Return the mean of a metric over the seeds of an arm, times `scale`."""
    return computed(lambda results: scale * results.metric(arm, metric))


def difference(metric: str, arm: str, than: str, *, scale: float = 1.0) -> Statistic:
    """Return the mean of `arm - than`, seed by seed, times `scale`."""
    return computed(
        lambda results: scale * (results.metric(arm, metric) - results.metric(than, metric)),
        paired=True,
    )


def ratio(metric: str, arm: str, to: str) -> Statistic:
    """Return the geometric mean of `arm / to`, seed by seed: the interval is that of the logs."""
    return computed_ratio(lambda results: results.metric(arm, metric) / results.metric(to, metric))


def computed(values: Callable[[Results], Any], *, paired: bool = False) -> Statistic:
    """Return the mean over seeds of whatever `values` makes of the results, one a seed."""
    test = PAIRED if paired else STUDENT
    return lambda results: _student(np.asarray(values(results), np.float64), test)


def geometric_mean(metric: str, arm: str, *, scale: float = 1.0) -> Statistic:
    """Return the geometric mean of a positive metric over the seeds of an arm, times `scale`.

    For errors and the like, which differ by factors between seeds.
    """
    return lambda results: _geometric(scale * results.metric(arm, metric), STUDENT)


def computed_ratio(values: Callable[[Results], Any]) -> Statistic:
    """Return the geometric mean over seeds of positive ratios, one a seed."""
    return lambda results: _geometric(np.asarray(values(results), np.float64), PAIRED)


def correlation(pairs: Callable[[Results], tuple[Any, Any]], what: str) -> Statistic:
    """Return Spearman's correlation of two lists; `what` names the units that are paired."""

    def statistic(results: Results) -> Estimate:
        first, second = (np.asarray(each, np.float64) for each in pairs(results))
        test = f"Spearman over {len(first)} {what}, Fisher's interval (Bonett and Wright)"
        if len(first) < LEAST_PAIRS:  # of a command with few seeds
            test = f"none: {len(first)} {what} are too few"
        elif np.isfinite(first).all() and np.isfinite(second).all():
            return Estimate(*rank_correlation(first, second), test, ())
        return Estimate(math.nan, math.nan, math.nan, test, ())

    return statistic


def exact(value: Callable[[Results], float], test: str) -> Statistic:
    """Return a number without chance in it: an interval of no width, and how it was found."""

    def statistic(results: Results) -> Estimate:
        found = float(value(results))
        return Estimate(found, found, found, test, (found,))

    return statistic


def _geometric(values: np.ndarray, test: str) -> Estimate:
    """Return the geometric mean with the interval of the logs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    found = _student(logs, test + ", of logarithms")
    center, low, high = (float(np.exp(bound)) for bound in found[:3])
    return Estimate(center, low, high, found.test, tuple(float(value) for value in values))


def _student(values: np.ndarray, test: str) -> Estimate:
    test = test.format(count=len(values))
    listed = tuple(float(value) for value in values)
    if not np.isfinite(values).all():
        return Estimate(math.nan, math.nan, math.nan, test, listed)
    return Estimate(*student_interval(values), test, listed)
