"""What the paper says of the explicit form, of frequencies and of layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.reproduce import Claim, Results, Settings, computed, computed_ratio, difference, mean
from train.reproduce.papers.camuto2020._jobs import TASKS

_LOSS = {"regression": "squared error", "classification": "cross-entropy"}
_MAIN_TERM = (
    "the paper. R is the main term of an expansion; what it leaves out does not fall with sigma: "
    "the ratio stays over the two smallest sigmas, and with the curvature term it is 1 to a "
    "hundredth (the claim on the second order)."
)
_NO_QUANTITY = (
    "a reading of ours. The sentence names no quantity; by this one, and by the layers' parts of R "
    "in the table, R is not largest near the output of every network. What the abstract says of "
    "frequencies in the layers is judged by itself."
)
_RAMPS = (
    "our protocol. Units far from their kink are ramps, and these make the mean frequency of every "
    "hidden layer 0.8 to 1.1 cycles, with noise or without: this measure does not see what the "
    "fits show."
)
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
                why_not=_MAIN_TERM,
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
    found = [
        Claim(
            id=f"{task}-acts-near-output",
            claim=f"R acts most on the layers near the output ({_LOSS[task]}): its slope in "
            "the last kernel against that in the first, each times the kernel's norm.",
            place=_LAYERS,
            paper="stronger",
            statistic=computed_ratio(lambda found, task=task: _last_to_first(found, task)),
            above=1.0,
            unit="times",
            why_not=_NO_QUANTITY,
        )
        for task in TASKS
    ]
    found += [
        Claim(
            id="layers-turn-low",
            claim="Noise lowers the frequencies of the functions from the input to the last hidden "
            "layer (sinusoids): the logarithm of their mean frequency, noise against clean.",
            place=_LAYERS,
            paper="lower",
            statistic=computed(lambda found: _turned(found)[:, -1], paired=True),
            below=0.0,
            about_penalty=True,
            why_not=_RAMPS,
        ),
        Claim(
            id="layers-turn-lower-near-output",
            claim="And more so the nearer a layer is to the output (sinusoids): that of the last "
            "hidden layer less that of the first.",
            place=_LAYERS,
            paper="lower",
            statistic=computed(lambda found: np.diff(_turned(found))[:, 0], paired=True),
            below=0.0,
            about_penalty=True,
            why_not=_RAMPS,
        ),
    ]
    return found


def _last_to_first(found: Results, task: str) -> list[float]:
    arm = f"{task}/noise"
    layers = [found.arrays(arm, seed)["pulls"] for seed in found.seeds[arm]]
    return [float(each[-1] / each[0]) for each in layers]


def _turned(found: Results) -> np.ndarray:
    """Return log(noise / clean) of the hidden layers' mean frequencies, a row a seed."""
    return np.stack(
        [
            np.log(
                found.arrays("sinusoids/noise", seed)["layer_frequencies"]
                / found.arrays("sinusoids/clean", seed)["layer_frequencies"]
            )
            for seed in found.seeds["sinusoids/noise"]
        ]
    )
