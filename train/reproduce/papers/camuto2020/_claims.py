"""What the paper says of the explicit form, of frequencies and of layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.reproduce import Claim, Results, Settings, computed, computed_ratio, difference, mean
from train.reproduce.papers.camuto2020._jobs import TASKS

_LOSS = {"regression": "squared error", "classification": "cross-entropy"}
_R, _FREQUENCIES, _LAYERS = "the explicit regulariser R", "frequencies", "layers"


def claims(settings: Settings) -> Sequence[Claim]:
    """Return the claims, the same at both scales."""
    return [*_limits(), *_frequencies(), *_layers()]


def _limits() -> list[Claim]:
    found = []
    for task, loss in _LOSS.items():
        found += [
            Claim(
                id=f"{task}-{arm}-tends-to-r",
                claim=f"As sigma falls, what noise adds to the loss tends to R ({loss}, network "
                f"trained {'with noise' if arm == 'noise' else 'without'}): their ratio at sigma "
                "0.01, to within 10 %. R is the main term alone: what the loss's slope makes of "
                "the network's curvature is missing, and vanishes only where the data is fitted.",
                place=_R,
                paper=1.0,
                statistic=mean("ratio_smallest", f"{task}/{arm}"),
                above=0.9,
                below=1.1,
                unit="times R",
            )
            for arm in ("clean", "noise")
        ]
        found.append(
            Claim(
                id=f"{task}-second-order",
                claim=f"With that curvature term it is exact ({loss}, trained with noise): the "
                "ratio at sigma 0.01 against the exact term of order sigma^2 (a check of ours).",
                place=_R,
                paper=1.0,
                statistic=computed_ratio(
                    lambda found, task=task: (
                        found.metric(f"{task}/noise", "ratio_smallest")
                        / found.metric(f"{task}/noise", "second_order")
                    )
                ),
                above=0.98,
                below=1.02,
                unit="times",
            )
        )
    return found


def _frequencies() -> list[Claim]:
    found = [
        Claim(
            id="noise-learns-low",
            claim="Regression on a mixture of sinusoids: with noise the lower third of the "
            "frequencies is learned (their mean share in the fit, 1 where learned) ...",
            place=_FREQUENCIES,
            paper="learned",
            statistic=mean("low", "sinusoids/noise"),
            above=0.5,
        ),
        Claim(
            id="clean-learns-high",
            claim="... and without noise the same network learns the upper third too.",
            place=_FREQUENCIES,
            paper="learned",
            statistic=mean("high", "sinusoids/clean"),
            above=0.5,
        ),
    ]
    for method, words in (("noise", "Noise"), ("explicit", "R as a penalty in place of noise")):
        found.append(
            Claim(
                id=f"{method}-loses-high",
                claim=f"{words} keeps the upper third from being learned: their mean share in the "
                "fit, against that of the clean network.",
                place=_FREQUENCIES,
                paper="lower",
                statistic=difference("high", f"sinusoids/{method}", "sinusoids/clean"),
                below=0.0,
                about_penalty=True,
            )
        )
    return found


def _layers() -> list[Claim]:
    found = []
    for task in TASKS:
        found += [
            Claim(
                id=f"{task}-largest-near-output",
                claim=f"The part of R from noise before the last layer is larger than that from "
                f"noise on the input ({_LOSS[task]}): the ratio.",
                place=_LAYERS,
                paper="larger",
                statistic=computed_ratio(
                    lambda found, task=task: _last_to_first(found, task, "terms")
                ),
                above=1.0,
                unit="times",
            ),
            Claim(
                id=f"{task}-acts-near-output",
                claim=f"R acts most on the layers near the output ({_LOSS[task]}): its slope in "
                "the last kernel against that in the first, each times the kernel's norm.",
                place=_LAYERS,
                paper="stronger",
                statistic=computed_ratio(
                    lambda found, task=task: _last_to_first(found, task, "pulls")
                ),
                above=1.0,
                unit="times",
            ),
            Claim(
                id=f"{task}-shrinks-near-output",
                claim=f"Training with noise shrinks the last kernel more than the first "
                f"({_LOSS[task]}): the difference of the logarithms of norms, noise against clean.",
                place=_LAYERS,
                paper="more",
                statistic=computed(lambda found, task=task: _shrinkage(found, task), paired=True),
                below=0.0,
                about_penalty=True,
            ),
        ]
    return found


def _last_to_first(found: Results, task: str, name: str) -> list[float]:
    arm = f"{task}/noise"
    layers = [found.arrays(arm, seed)[name] for seed in found.seeds[arm]]
    return [float(each[-1] / each[0]) for each in layers]


def _shrinkage(found: Results, task: str) -> list[float]:
    values = []
    for seed in found.seeds[f"{task}/noise"]:
        noisy, clean = (found.arrays(f"{task}/{arm}", seed) for arm in ("noise", "clean"))
        change = np.log(noisy["kernels"] / clean["kernels"])
        values.append(float(change[-1] - change[0]))
    return values
