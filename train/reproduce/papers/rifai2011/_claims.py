"""The orderings of table 1, the spectrum, the contraction and CAE+H."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.reproduce import Claim, Results, Settings, computed, difference, ratio
from train.reproduce.papers.rifai2011._jobs import HESSIAN, LARGE, NORM, OTHERS, ROWS, SATURATION

_TABLE = "table 1, MNIST"
_FEW_SEEDS = (
    "our protocol: five seeds of 1000 test digits leave it open. Ten (`--seeds 10`) give -0.58 "
    "points, from -1.08 to -0.08."
)


def claims(settings: Settings) -> Sequence[Claim]:
    """Return the claims, the same at both scales."""
    cae, plain = ROWS["cae"], ROWS["ae"]
    found = []
    for name in OTHERS:
        row = ROWS[name]
        found += [
            Claim(
                id=f"cae-norm-below-{name}",
                claim=f"The CAE's encoder has a smaller Jacobian than the {row.title}'s: the "
                "latter's mean norm over the former's.",
                place=_TABLE,
                paper=row.norm / cae.norm,
                statistic=ratio(NORM, name, "cae"),
                above=1.0,
                unit="times",
                about_penalty=True,
            ),
            Claim(
                id=f"cae-saturates-more-than-{name}",
                claim=f"More of the CAE's units are saturated than of the {row.title}'s.",
                place=_TABLE,
                paper=cae.saturation - row.saturation,
                statistic=difference(SATURATION, "cae", name, scale=100),
                above=0.0,
                unit="points",
                about_penalty=True,
            ),
            Claim(
                id=f"cae-error-below-{name}",
                claim=f"The CAE has a smaller test error after fine-tuning than the {row.title}.",
                place=_TABLE,
                paper=cae.error - row.error,
                statistic=difference("test/accuracy", "cae", name, scale=-100),
                below=0.0,
                unit="points",
                about_penalty=True,
                why_not=_FEW_SEEDS if settings.quick and name == "ae" else "",
            ),
            Claim(
                id=f"cae-fewer-large-than-{name}",
                claim=f"The CAE's Jacobian has fewer large singular values than the {row.title}'s: "
                "how many are above a tenth of the largest, the difference.",
                place="spectrum of J_f",
                paper="fewer",
                statistic=difference(LARGE, "cae", name),
                below=0.0,
                # The plain AE has fewer than DAE-g too.
                about_penalty=name != "dae-g",
            ),
        ]
    for name in OTHERS[:-1]:
        row = ROWS[name]
        found.append(
            Claim(
                id=f"ae-norm-above-{name}",
                claim=f"The plain AE's encoder has a larger Jacobian than the {row.title}'s: the "
                "ratio.",
                place=_TABLE,
                paper=plain.norm / row.norm,
                statistic=ratio(NORM, "ae", name),
                above=1.0,
                unit="times",
                about_penalty=name == "ae-wd",
            )
        )
    return [
        *found,
        Claim(
            id="cae-contracts-near",
            claim="The CAE contracts more than the AE near test points: the ratio of the two's "
            "norm(f(x + d) - f(x)) / norm(d) at norm(d) = 1.",
            place="contraction ratio against distance",
            paper="lower",
            statistic=ratio("pretrain/contraction_at_1", "cae", "ae"),
            below=1.0,
            unit="times the AE's",
            about_penalty=True,
        ),
        Claim(
            id="cae-contraction-weakens",
            claim="The CAE's advantage over the AE is local: the same ratio is larger at distance "
            "30 than at 1, the difference of its logarithms (ours, for the curves).",
            place="contraction ratio against distance",
            paper="no number found",
            statistic=computed(_weakening, paired=True),
            above=0.0,
            about_penalty=True,
        ),
        Claim(
            id="hessian-penalty-lowers-change",
            claim="CAE+H: the penalty on the change of the Jacobian lowers it further, against the "
            "CAE: the ratio of sqrt(E norm(J(x + e) - J(x))_F^2).",
            place="CAE+H, abstract",
            paper="lower",
            statistic=ratio("pretrain/hessian", HESSIAN, "cae"),
            below=1.0,
            unit="times the CAE's",
            about_penalty=True,
        ),
    ]


def _weakening(results: Results) -> Any:
    near, far = (
        np.log(results.metric("cae", name) / results.metric("ae", name))
        for name in ("pretrain/contraction_at_1", "pretrain/contraction_at_30")
    )
    return far - near
