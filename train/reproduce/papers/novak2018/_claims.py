"""What the paper says of norms and generalisation, and one claim of ours about a penalty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.reproduce import Claim, Results, Settings, computed, computed_ratio, correlation
from train.reproduce.papers.novak2018._jobs import ACTIVATIONS, grid

_ABSTRACT = "abstract"
_FEW = (
    "our protocol: 300 training examples are few. With 1000 (one seed, five networks a setting) "
    "the ratio falls from 1.01 to 0.98 with full batches and from 0.99 to 0.94 with mini batches. "
    "Widths of 256 in place of 64 leave it at 1.01 and 0.99, four hidden layers in place of two "
    "make it 1.01 and 0.89. With random labels relu has the smaller norm here too (table)."
)


def claims(settings: Settings) -> Sequence[Claim]:
    """Return the claims, the same at both scales but for what is known of one."""
    return [
        Claim(
            id="norm-predicts-gap",
            claim="Over all networks of the grid, the mean norm of the Jacobian on test points "
            "goes with the generalisation gap: Spearman's correlation.",
            place=_ABSTRACT,
            paper="positive",
            statistic=correlation(lambda found: pairs(found, grid(), "norm"), "networks"),
            above=0.0,
        ),
        Claim(
            id="norm-predicts-gap-true-labels",
            claim="The same among the networks that were trained on true labels, where no "
            "difference of labels can make the correlation.",
            place=_ABSTRACT,
            paper="positive",
            statistic=correlation(lambda found: pairs(found, grid(["true"]), "norm"), "networks"),
            above=0.0,
        ),
        Claim(
            id="transitions-predict-gap",
            claim="Over the relu networks, the number of linear-region transitions along closed "
            "paths through test points goes with the gap: Spearman's correlation.",
            place=_ABSTRACT,
            paper="positive",
            statistic=correlation(
                lambda found: pairs(found, grid(activations=["relu"]), "transitions"), "networks"
            ),
            above=0.0,
        ),
        _ordering(
            "random-labels-raise",
            "Random labels raise the norm: against true ones.",
            grid(["random"]),
            grid(["true"]),
            raised=True,
        ),
        _ordering(
            "full-batch-raises",
            "Full-batch training raises the norm (true labels): against mini batches.",
            grid(["true"], ["full"]),
            grid(["true"], ["mini"]),
            raised=True,
        ),
        _ordering(
            "relu-lowers",
            "relu has the smaller norm (true labels): against tanh.",
            grid(["true"], activations=["relu"]),
            grid(["true"], activations=["tanh"]),
            raised=False,
            why_not=_FEW if settings.quick else "",
        ),
        _ordering(
            "augmentation-lowers",
            "Augmentation by shifts of a pixel lowers the norm: against none.",
            [f"augmented/{name}" for name in ACTIVATIONS],
            [f"true/mini/{name}" for name in ACTIVATIONS],
            raised=False,
        ),
        Claim(
            id="random-labels-raise-transitions",
            claim="Random labels raise the number of linear-region transitions (relu): the ratio.",
            place=_ABSTRACT,
            paper="higher",
            statistic=computed_ratio(
                lambda found: ratios(
                    found,
                    grid(["random"], activations=["relu"]),
                    grid(["true"], activations=["relu"]),
                    "mean_transitions",
                )
            ),
            above=1.0,
            unit="times",
        ),
        Claim(
            id="per-point",
            claim="Within a network (true labels), test points that are misclassified have the "
            "larger norms: the share of pairs of a wrong and a right point ordered so (AUC).",
            place=_ABSTRACT,
            paper="above chance",
            statistic=computed(lambda found: over_arms(found, grid(["true"]), "auc").mean(0)),
            above=0.5,
        ),
        _ordering(
            "penalty-lowers-norm",
            "Ours, not the paper's: a Jacobian penalty lowers the norm: against none.",
            [f"penalised/{name}" for name in ACTIVATIONS],
            [f"true/mini/{name}" for name in ACTIVATIONS],
            raised=False,
            ours=True,
        ),
        Claim(
            id="penalty-lowers-gap",
            claim="Ours, not the paper's: so the norm is a cause: a Jacobian penalty lowers the "
            "gap too, in points of accuracy against none.",
            place="ours",
            paper="no such experiment",
            statistic=computed(
                lambda found: (
                    100
                    * np.mean(
                        [
                            found.metric(f"penalised/{name}", "mean_gap")
                            - found.metric(f"true/mini/{name}", "mean_gap")
                            for name in ACTIVATIONS
                        ],
                        axis=0,
                    )
                ),
                paired=True,
            ),
            below=0.0,
            unit="points",
            about_penalty=True,
        ),
    ]


def _ordering(
    name: str,
    sentence: str,
    arms: Sequence[str],
    to: Sequence[str],
    *,
    raised: bool,
    ours: bool = False,
    why_not: str = "",
) -> Claim:
    """Return the claim that a mean norm lies on one side of another, both with the same seeds."""
    word = "higher" if raised else "lower"
    return Claim(
        id=name,
        claim=f"{sentence[:-1]}, the ratio of the mean norms.",
        place="ours" if ours else _ABSTRACT,
        paper="no such experiment" if ours else word,
        statistic=computed_ratio(lambda found: ratios(found, arms, to, "mean_norm")),
        above=1.0 if raised else 0.0,
        below=np.inf if raised else 1.0,
        unit="times",
        about_penalty=ours,
        why_not=why_not,
    )


def over_arms(found: Results, arms: Sequence[str], metric: str) -> np.ndarray:
    """Return a metric `[arms, seeds]`."""
    return np.stack([found.metric(arm, metric) for arm in arms])


def ratios(found: Results, arms: Sequence[str], to: Sequence[str], metric: str) -> np.ndarray:
    """Return by seed the geometric mean of `arms / to`, pair by pair."""
    logs = np.log(over_arms(found, arms, metric)) - np.log(over_arms(found, to, metric))
    return np.exp(logs.mean(0))


def pairs(found: Results, arms: Sequence[str], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a quantity and the gap of every network of the arms."""
    arrays = [each for arm in arms for each in found.all_arrays(arm)]
    first, second = (np.concatenate([each[key] for each in arrays]) for key in (name, "gap"))
    return first, second
