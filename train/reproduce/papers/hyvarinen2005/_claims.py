"""What the paper says, as claims."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import Claim, Settings, computed, difference, mean, uci
from train.reproduce.papers.hyvarinen2005._plan import densities
from train.reproduce.papers.ssm2019._claims import LEARNT, share

_THEOREM = "theorem 1"
_MINIMISER = "theorem 1, its minimiser"


def claims(settings: Settings) -> Sequence[Claim]:
    """Return the claims that the given data allow."""
    found = [*_closed_forms(), *(_learns(arm) for arm in densities(settings)), *_others()]
    for name in settings.data:
        gaussian = -0.5 * uci.FEATURES[name]
        found.append(
            Claim(
                id=f"{name}-beats-a-gaussian",
                claim=f"On {name} the score learnt comes below the objective of the Gaussian of "
                f"the data's mean and covariance, {gaussian:g} after whitening, on test rows.",
                place=_MINIMISER,
                paper="below",
                statistic=mean("test/score_matching", f"table/{name}"),
                below=gaussian,
                about_penalty=True,
            )
        )
    return found


def _closed_forms() -> list[Claim]:
    return [
        Claim(
            id="theorem",
            claim="E[tr(ds/dx) + norm(s)^2 / 2], which needs no true score, is half the mean "
            "squared distance to it but for a constant: largest difference over eight networks "
            "drawn at random, by quadrature over a mixture.",
            place=_THEOREM,
            paper="equal",
            statistic=mean("residual", "theorem"),
            below=1e-3,
            unit="of the constant",
            about_penalty=True,
        ),
        Claim(
            id="gaussian-is-maximum-likelihood",
            claim="For a Gaussian the minimiser is the inverse of the sample's covariance, so the "
            "estimate of maximum likelihood: largest relative distance over samples of all sizes.",
            place=_MINIMISER,
            paper="equal",
            statistic=mean("to_sample", "gaussian-model"),
            below=1e-3,
            unit="relative distance",
            about_penalty=True,
        ),
        Claim(
            id="consistent",
            claim="The estimate comes to the truth as the sample grows, with the root of its size: "
            "exponent of the size in the root mean square error of the inverse covariance.",
            place=_MINIMISER,
            paper="consistent",
            statistic=mean("exponent", "gaussian-model"),
            above=-0.6,
            below=-0.4,
            unit="exponent of the size",
            about_penalty=True,
        ),
    ]


def _learns(arm: str) -> Claim:
    words = arm.replace("/", " ")
    return Claim(
        id=f"learns-{arm.split('/')[1] if arm.startswith('density') else arm.replace('/', '-')}",
        claim=f"From samples alone a network learns the score ({words}): its squared error is a "
        "small share of the true score's mean square.",
        place=_MINIMISER,
        paper="small",
        statistic=computed(lambda results: share(results, arm)),
        below=LEARNT,
        unit="of the error of the score 0",
        about_penalty=True,
    )


def _others() -> list[Claim]:
    return [
        Claim(
            id="sees-more-than-a-gaussian",
            claim="The objective tells a model that fits from one that does not: on a mixture it "
            "is lower for a network than for a linear score, which is a Gaussian.",
            place=_THEOREM,
            paper="lower",
            statistic=difference(
                "test/score_matching", "density/gaussian-mixture", "linear/gaussian-mixture"
            ),
            below=0.0,
        ),
        Claim(
            id="cost-grows",
            claim="The exact trace takes a product a dimension: exponent of d in the time of a "
            "gradient over that of one plain pass.",
            place="the objective, as Song et al. 2019 count it",
            paper="O(d)",
            statistic=mean("exponent/exact", "cost"),
            above=0.5,
            unit="exponent of d",
        ),
    ]
