"""What the paper says, as claims."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import (
    Claim,
    Results,
    Settings,
    computed,
    mean,
    ratio,
    uci,
)
from train.reproduce.papers.ssm2019._plan import MANY, SLICED, dimensions

_ABSTRACT = "the objective and its abstract"
_SCALES = "scalability, N(0, I_d)"
_DENSITY = "score error against a known density"
_TABLES = "UCI, DKEF"
# Of the mean square of the true score: what the score 0 has is 1.
LEARNT, EQUAL = 0.1, 0.02


def share(results: Results, arm: str):
    """Return the score's error over that of the score 0, one value a seed."""
    return results.metric(arm, "test/score_error") / results.metric(arm, "test/true_score_squared")


def claims(settings: Settings) -> Sequence[Claim]:
    """Return the claims that the given data allow."""
    found = [*_unbiased(), *_cost()]
    for size in dimensions(settings):
        found += _on_mixture(size)
    found.append(_slices(MANY))
    for name in settings.data:
        found += _on_table(name)
    return found


def _unbiased() -> list[Claim]:
    found = [
        Claim(
            id=f"unbiased-{name}",
            claim=f"The mean of {words} over slices is the exact objective of Hyvarinen: "
            "largest distance at a point, over all 2^8 vectors of signs.",
            place=_ABSTRACT,
            paper="equal",
            statistic=mean(metric, "slices"),
            below=1e-4,
            unit="of the objective's root mean square",
            about_penalty=True,
        )
        for name, metric, words in (
            ("sliced", "bias", "v^T (ds/dx) v + (v^T s)^2 / 2"),
            ("sliced-vr", "bias_vr", "v^T (ds/dx) v + norm(s)^2 / 2"),
        )
    ]
    variance = Claim(
        id="variance-reduced",
        claim="The variance over slices is smaller with the exact norm (SSM-VR): the ratio, over "
        "all 2^8 vectors of signs, at the score of a mixture.",
        place=_ABSTRACT,
        paper="smaller",
        statistic=computed(
            lambda results: (
                results.metric("slices", "variance_vr") / results.metric("slices", "variance")
            )
        ),
        below=1.0,
        unit="times that of SSM",
    )
    return [*found, variance]


def _cost() -> list[Claim]:
    return [
        Claim(
            id="cost-sliced-flat",
            claim="The cost of SSM-VR over that of one plain pass does not grow with the "
            "dimension: exponent of d in the time of a gradient.",
            place=_SCALES,
            paper="O(1)",
            statistic=mean("exponent/sliced-vr", "cost"),
            above=-0.25,
            below=0.25,
            unit="exponent of d",
        ),
        Claim(
            id="cost-exact-grows",
            claim="The cost of exact score matching, with d products, over that of one plain pass "
            "grows with the dimension: exponent of d in the time of a gradient.",
            place=_SCALES,
            paper="O(d)",
            statistic=mean("exponent/exact", "cost"),
            above=0.5,
            unit="exponent of d",
        ),
    ]


def _on_mixture(size: int) -> list[Claim]:
    arm = f"mixture-{size}"
    found = [
        Claim(
            id=f"learns-{size}-{loss}",
            claim=f"{loss} learns the score of the mixture in {size} dimensions: its squared error "
            "is a small share of the true score's mean square.",
            place=_DENSITY,
            paper="small",
            statistic=computed(lambda results, loss=loss: share(results, f"{arm}/{loss}")),
            below=LEARNT,
            unit="of the error of the score 0",
            about_penalty=True,
        )
        for loss in ("exact", "sliced-vr")
    ]
    approaches = Claim(
        id=f"approaches-{size}",
        claim=f"SSM-VR, with one slice, approaches exact score matching ({size} dimensions): "
        "difference of the two errors.",
        place=_ABSTRACT,
        paper="about equal",
        statistic=computed(
            lambda results: share(results, f"{arm}/sliced-vr") - share(results, f"{arm}/exact"),
            paired=True,
        ),
        above=-EQUAL,
        below=EQUAL,
        unit="of the error of the score 0",
    )
    return [*found, approaches]


def _slices(size: int) -> Claim:
    return Claim(
        id="more-slices",
        claim=f"More slices bring SSM-VR nearer to the exact score ({size} dimensions): error with "
        f"{SLICED} slices over that with one.",
        place=_ABSTRACT,
        paper="smaller",
        statistic=ratio(
            "test/score_error", f"mixture-{size}/sliced-vr-{SLICED}", f"mixture-{size}/sliced-vr"
        ),
        below=1.0,
        unit="times that with one",
        about_penalty=True,
    )


def _on_table(name: str) -> list[Claim]:
    gaussian = -0.5 * uci.FEATURES[name]
    return [
        Claim(
            id=f"{name}-approaches",
            claim=f"On {name} SSM-VR comes to the exact test objective of exact score matching: "
            "the ratio of the two.",
            place=_TABLES,
            paper="about equal",
            statistic=computed(
                lambda results: (
                    results.metric(f"{name}/sliced-vr", "test/score_matching")
                    / results.metric(f"{name}/exact", "test/score_matching")
                ),
                paired=True,
            ),
            above=0.9,
            below=1.1,
            unit="times the exact one's",
        ),
        Claim(
            id=f"{name}-beats-a-gaussian",
            claim=f"On {name} SSM-VR comes below the objective of the Gaussian of the data's mean "
            f"and covariance, {gaussian:g} after whitening.",
            place=_TABLES,
            paper="below",
            statistic=mean("test/score_matching", f"{name}/sliced-vr"),
            below=gaussian,
            unit="",
            about_penalty=True,
        ),
    ]
