"""Intervals over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import ArrayLike


# Of a comparison, a run each.
MOST_SEEDS = 10_000
LEAST_PAIRS = 10  # of a rank correlation


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def student_interval(values: ArrayLike) -> Interval:
    """Return the mean with Student's 95 % interval; of differences, a paired one.

    Raises:
        ValueError: fewer than two values.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(
            f"student_interval: got {found.shape} values, expected one axis of at least 2."
        )
    mean, reach = float(found.mean()), float(student_reach(found))
    return Interval(mean, mean - reach, mean + reach)


def student_reach(values: Float[np.ndarray, "seeds ..."]) -> Float[np.ndarray, "..."]:
    """Return how far Student's 95 % interval goes to each side of the mean over the first axis."""
    from scipy import stats

    error = values.std(0, ddof=1) / np.sqrt(len(values))
    return stats.t.ppf(0.975, len(values) - 1) * error


def rank_correlation(first: ArrayLike, second: ArrayLike) -> Interval:
    """Return Spearman's rank correlation with a 95 % interval.

    The interval is Fisher's on arctanh with the variance (1 + r^2 / 2) / (n - 3)
    (Bonett and Wright 2000, Sample size requirements for estimating correlations).

    Raises:
        ValueError: lengths that differ or fewer than `LEAST_PAIRS` pairs.
    """
    from scipy import stats

    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape or one.ndim != 1 or len(one) < LEAST_PAIRS:
        raise ValueError(
            f"rank_correlation: got {one.shape} and {other.shape} values, expected the same "
            f"number on one axis, at least {LEAST_PAIRS}."
        )
    spearman: Any = stats.spearmanr(one, other)
    found = float(np.clip(spearman.statistic, -1 + 1e-12, 1 - 1e-12))
    found_z = np.arctanh(found)
    reach = stats.norm.ppf(0.975) * np.sqrt((1 + found**2 / 2) / (len(one) - 3))
    return Interval(found, float(np.tanh(found_z - reach)), float(np.tanh(found_z + reach)))


def shown_interval(values: ArrayLike, form: str = ".3g", reach_form: str = ".1g") -> str:
    """Return `mean ± half of the 95 % interval` as a table's cell.

    One value stands alone; `diverged` where one is not finite.
    """
    found = np.asarray(values, np.float64)
    if not np.isfinite(found).all():
        return "diverged"
    if len(found) < 2:
        return f"{found.mean():{form}}"
    interval = student_interval(found)
    return f"{interval.mean:{form}} ± {interval.high - interval.mean:{reach_form}}"


def shown_rounded(values: ArrayLike, digits: int = 1) -> str:
    """Return `shown_interval`, mean and reach to so many digits behind the point."""
    return shown_interval(values, f".{digits}f", f".{digits}f")
