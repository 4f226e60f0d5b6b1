"""Many draws of an estimate: whether it is unbiased, and how far it is off."""

from __future__ import annotations

import numpy as np


def root_mean_square(squares: np.ndarray) -> float:
    """Root of the mean of squared errors."""
    return float(np.sqrt(np.mean(squares)))


def unbiased(differences: np.ndarray, name: str) -> None:
    """Check that differences `[keys, N]` have mean zero, within five standard errors.

    Raises:
        AssertionError: they have not.
    """
    means = differences.mean(axis=1)
    error = means.std(ddof=1) / len(means) ** 0.5
    assert abs(means.mean()) <= 5 * error, (
        f"{name}: the mean is off by {means.mean():.3g} +- {error:.2g}"
    )


def deviation_of_ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
    """One standard error of the ratio of the roots of `[keys, N]`, keys as independent draws."""
    first, second = ours.mean(axis=1), theirs.mean(axis=1)
    ratio = (first.mean() / second.mean()) ** 0.5
    relative = [each.var(ddof=1) / each.mean() ** 2 / len(each) for each in (first, second)]
    return float(0.5 * ratio * sum(relative) ** 0.5)
