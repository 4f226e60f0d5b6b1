"""What a run spent until its test likelihood reached a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

    from train.reproduce import Results


def curve(lines: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return evaluations of the field in training up to each evaluation, and the nll there.

    `train/nfe` is the mean since the line before.
    """
    kept = [line for line in lines if line.get("test/nll") is not None and "train/nfe" in line]
    steps = np.asarray([line["step"] for line in kept], np.float64)
    spent = np.cumsum(np.diff(steps, prepend=0) * [line["train/nfe"] for line in kept])
    return spent, np.asarray([line["test/nll"] for line in kept])


def first_below(spent: Any, nll: Any, level: float) -> float:
    """Return what was spent when nll first came down to `level`; nan where it never did.

    Linear between two evaluations.
    """
    below = np.flatnonzero(np.asarray(nll) <= level)
    if not len(below):
        return float("nan")
    at = int(below[0])
    if at == 0:
        return float(spent[0])
    share = (nll[at - 1] - level) / (nll[at - 1] - nll[at])
    return float(spent[at - 1] + share * (spent[at] - spent[at - 1]))


def effort_ratio(results: Results, arm: str, to: str) -> Float[np.ndarray, " seeds"]:
    """Return what `arm` spent over what `to` spent, to the likelihood that both reach.

    That is the worse of their two best test likelihoods, seed by seed. What is spent are
    evaluations of the field in training.
    """
    found = []
    for seed in results.seeds[arm]:
        curves = [curve(results.lines(name, seed)) for name in (arm, to)]
        if any(len(nll) == 0 for _, nll in curves):
            found.append(np.nan)
            continue
        level = max(nll.min() for _, nll in curves)
        spent = [first_below(evaluations, nll, level) for evaluations, nll in curves]
        found.append(spent[0] / spent[1])
    return np.asarray(found)
