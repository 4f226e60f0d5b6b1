"""The claims of Hoffman et al. 2019, and two guards of ours against masked gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from train.reproduce import (
    Claim,
    Results,
    Settings,
    computed,
    computed_ratio,
    difference,
    mean,
    ratio,
)
from train.reproduce.papers.hoffman2019._jobs import (
    ATTACKED,
    FGSM,
    MANY_STEPS,
    NOISE,
    OVERHEAD,
    ROWS,
    TITLES,
)

# Table 1, all training data: accuracy in % and norm(J)_F.
ACCURACY = {"none": 98.9, "l2": 99.2, "dropout": 98.6, "jacobian": 99.0, "all": 99.1}
NORM = {"none": 32.9, "l2": 4.6, "dropout": 21.5, "jacobian": 1.1, "all": 1.2}
# Table 2: accuracy in % on USPS after training on MNIST.
USPS = {"none": 80.4, "jacobian": 81.3, "all": 85.7}
_FRAME = (
    "our protocol: how the paper framed the other digits was not found, and it weighs more than "
    "the regularizers. After 1000 steps on MNIST one seed reads USPS at 91.4 % without, 92.1 with "
    "the Jacobian and 90.2 with all three in our frame, at 77.0, 78.6 and 75.1 where a digit fills "
    "the 28x28 pixels, and at 88.7, 87.6 and 88.2 as 16x16 in their middle."
)
_UNFINISHED = (
    " With all three, dropout among them, the network is far from done: on MNIST one seed is at "
    "97.7 % after 1000 steps (98.7 without any), five are at 98.8 after 6000 (99.0 without), of "
    "150,000 in the paper."
)
POINTS = 100.0  # accuracies are shares; claims are in percentage points


def claims(settings: Settings) -> Sequence[Claim]:
    """Return the claims of a scale."""
    found = [*_norms(), *_accuracies(settings), *_transfer(settings), *_robustness(), *_guards()]
    return [*found, *_probes(settings), _overhead()]


def _all(row: str) -> str:
    return f"table1/{row}/all"


def _norms() -> Sequence[Claim]:
    return [
        Claim(
            id=f"norm-below-{row}",
            claim=f"The penalty makes norm(J)_F smaller than {TITLES[row]}, all training data.",
            place="table 1",
            paper=NORM["jacobian"] / NORM[row],
            statistic=ratio("test/jacobian_norm", _all("jacobian"), _all(row)),
            below=1.0,
            unit="times",
            about_penalty=True,
        )
        for row in ("none", "l2", "dropout")
    ]


def _accuracies(settings: Settings) -> Sequence[Claim]:
    found = [
        Claim(
            id="accuracy-kept",
            claim="The penalty costs less than half a point of accuracy, all training data.",
            place="table 1",
            paper=ACCURACY["jacobian"] - ACCURACY["none"],
            statistic=difference("test/accuracy", _all("jacobian"), _all("none"), scale=POINTS),
            above=-0.5,
            unit="points",
        )
    ]
    if settings.quick:
        return found
    for row in ROWS:
        found.append(
            Claim(
                id=f"accuracy-{row}",
                claim=f"The accuracy with {TITLES[row]} is the paper's within 0.3 points.",
                place="table 1",
                paper=ACCURACY[row],
                statistic=mean("test/accuracy", _all(row), scale=POINTS),
                above=ACCURACY[row] - 0.3,
                below=ACCURACY[row] + 0.3,
                unit="%",
                why_not=f"our protocol: cut short.{_UNFINISHED}" if row == "all" else "",
            )
        )
    return found


def _transfer(settings: Settings) -> Sequence[Claim]:
    if "usps" in settings.data:
        what, place, paper = "USPS", "table 2", {row: USPS[row] - USPS["none"] for row in USPS}
    else:
        what = "the digits that come with scikit-learn"
        place, paper = "table 2, other digits", {row: "higher" for row in USPS}
    return [
        Claim(
            id=f"transfer-{row}",
            claim=f"Trained on MNIST, {TITLES[row]} reads {what} better than no regularization.",
            place=place,
            paper=paper[row],
            statistic=_between(f"{row}/other", "none/other"),
            above=0.0,
            unit="points",
            about_penalty=row == "jacobian",
            why_not=_FRAME + (_UNFINISHED if row == "all" else ""),
        )
        for row in ("jacobian", "all")
    ]


def _between(first: str, second: str) -> Any:
    """Return the difference of two metrics of the same models, in points."""
    return computed(
        lambda results: (
            POINTS * (results.metric(ATTACKED, first) - results.metric(ATTACKED, second))
        ),
        paired=True,
    )


def _robustness() -> Sequence[Claim]:
    found = [
        Claim(
            id=f"noise-above-{row}",
            claim="Under white noise the penalty alone keeps more accuracy than "
            f"{TITLES[row]} alone (mean over scales {NOISE[0]:g} to {NOISE[-1]:g}).",
            place="figure, white noise",
            paper="best single regularizer",
            statistic=_advantage("noise", NOISE, row),
            above=0.0,
            unit="points",
            about_penalty=True,
        )
        for row in ("none", "l2", "dropout")
    ]
    found.append(
        Claim(
            id="fgsm-above-none",
            claim="Under FGSM the penalty keeps more accuracy than no regularization "
            f"(mean over scales {FGSM[0]:g} to {FGSM[-1]:g}).",
            place="figure, FGSM",
            paper="higher",
            statistic=_advantage("fgsm", FGSM, "none"),
            above=0.0,
            unit="points",
            about_penalty=True,
        )
    )
    found.append(
        Claim(
            id="margin-larger",
            claim="The penalty enlarges the decision cells: the median distance to another class "
            "(L2 attack of Carlini and Wagner) against no regularization.",
            place="figure, decision cells",
            paper="larger",
            statistic=computed_ratio(
                lambda results: (
                    results.metric(ATTACKED, "jacobian/margin")
                    / results.metric(ATTACKED, "none/margin")
                )
            ),
            above=1.0,
            unit="times",
            about_penalty=True,
        )
    )
    return found


def _advantage(kind: str, scales: Sequence[float], row: str) -> Any:
    """Return the difference of the mean accuracies over the scales of an attack, in points."""

    def mean_of(results: Results, row: str) -> Any:
        return results.metrics(ATTACKED, [f"{row}/{kind}_{s:g}" for s in scales]).mean(1)

    return computed(
        lambda results: POINTS * (mean_of(results, "jacobian") - mean_of(results, row)),
        paired=True,
    )


def _guards() -> Sequence[Claim]:
    return [
        Claim(
            id="guard-more-steps",
            claim=f"Gradients are not masked: five times the steps of PGD (scale {MANY_STEPS:g}) "
            "do not leave the penalised model more than a point better.",
            place="ours (Wu and Li 2024: report more than one attack)",
            paper="no gain",
            statistic=_between("jacobian/pgd_more", f"jacobian/pgd_{MANY_STEPS:g}"),
            below=1.0,
            unit="points",
        ),
        Claim(
            id="guard-transfer",
            claim="Gradients are not masked: PGD made against the unregularized model harms the "
            f"penalised one less than its own PGD (scale {MANY_STEPS:g}).",
            place="ours",
            paper="weaker",
            statistic=_between("jacobian/transfer", f"jacobian/pgd_{MANY_STEPS:g}"),
            above=0.0,
            unit="points",
        ),
    ]


def _probes(settings: Settings) -> Sequence[Claim]:
    found = [
        Claim(
            id=f"probes-{probes}",
            claim=f"With {probes} projection{'s' if probes != '1' else ''} an example the trained "
            "MLP's norm(J)_F is that of training with the exact penalty, within 15 %.",
            place="figure, n_proj against exact",
            paper="the same",
            statistic=ratio("test/jacobian_norm", f"probes/{probes}", "probes/exact"),
            above=0.85,
            below=1.15,
            unit="times",
        )
        for probes in ("1", "3")
    ]
    found.append(
        Claim(
            id="mlp-norm",
            claim="In the official MLP example the penalty lowers norm(J)_F.",
            place="official code",
            paper="lower",
            statistic=ratio("test/jacobian_norm", "probes/1", "probes/none"),
            below=1.0,
            unit="times",
            about_penalty=True,
        )
    )
    if "mnist" in settings.data or not settings.quick:
        found.append(
            Claim(
                id="mlp-accuracy",
                claim="The official MLP example reaches the accuracy that it printed, within half "
                "a point.",
                place="official code, 9702 of 10000",
                paper=97.02,
                statistic=mean("test/accuracy", "probes/1", scale=POINTS),
                above=96.52,
                below=97.52,
                unit="%",
                why_not="our protocol: five seeds leave it open. Of ten (card of "
                "configs/hoffman-mlp.toml) nine are within half a point, and their mean is 96.9 %.",
            )
        )
    return found


def _overhead() -> Claim:
    return Claim(
        id="overhead",
        claim="A step with one projection takes about 1.3 times a plain one (LeNet', all data; "
        "by FLOPs the floor of a shared forward pass is 2).",
        place="text",
        paper=1.3,
        statistic=mean("ratio", OVERHEAD),
        above=1.0,
        below=1.5,
        unit="times",
        why_not="our protocol: a CPU. The gradient of a projection takes 2.1 times the operations "
        "of the task's, although the forward pass is shared, and a CPU does one operation after "
        "the other: 2.5 times with batches of 50 (quick), 2.6 with batches of 100 (full).",
    )
