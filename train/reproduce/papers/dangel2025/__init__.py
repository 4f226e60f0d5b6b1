"""Dangel et al. 2025: what collapsed Taylor mode saves in Laplacians and biharmonics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.figures import pyplot, save
from train.reproduce import (
    Claim,
    Job,
    Paper,
    Results,
    Settings,
    Statistic,
    Table,
    computed_ratio,
    exact,
    geometric_mean,
    measurement,
)
from train.reproduce.papers.dangel2025._measure import biharmonics, laplacians, memory

_LAPLACIAN, _WEIGHTED, _BIHARMONIC = "laplacian", "weighted", "biharmonic"
_PLACE = "Table 1: slopes over the batch size, PyTorch on an RTX 6000"
_BATCHES = {"quick": (8, 16, 32), "full": (8, 16, 32, 64)}
# Milliseconds and MiB a datum as the paper prints them (PyTorch, one RTX 6000).
_PUBLISHED = {
    (_LAPLACIAN, "ms"): {"nested": 0.609, "standard": 0.564, "collapsed": 0.290},
    (_LAPLACIAN, "mib"): {"nested": 4.42, "standard": 4.55, "collapsed": 2.06},
    (_BIHARMONIC, "ms"): {"nested": 1.244, "standard": 0.899, "collapsed": 0.686},
}
_TITLES = {
    _LAPLACIAN: "Laplacian, 50 inputs",
    _WEIGHTED: "weighted Laplacian, 50 inputs",
    _BIHARMONIC: "biharmonic, 5 inputs",
}
_COMPILED = (
    "our protocol: a compiler. XLA writes elementwise operations into one loop, which saves nested "
    "derivatives most. With that pass off it plans for the Laplacian 2.35 MiB a datum nested, 1.44 "
    "standard and 0.56 collapsed, 0.24 and 0.39 times; with it 0.55, 0.61 and 0.45."
)
_COLORS = {"nested": "C0", "standard": "C1", "collapsed": "C2"}
_UNITS = {"ms": "time", "mib": "memory"}
_AXES = {"ms": "core time", "mib": "memory"}


def _jobs(settings: Settings) -> Sequence[Job]:
    batches = _BATCHES[settings.scale]
    jobs, seeds = [], settings.each_seed
    for arm in (_LAPLACIAN, _WEIGHTED):
        weighted = arm == _WEIGHTED
        jobs += measurement(arm, seeds, laplacians, inputs=50, batches=batches, weighted=weighted)
    jobs += measurement(_BIHARMONIC, seeds, biharmonics, inputs=5, batches=batches)
    for arm in _TITLES:
        jobs += measurement(
            f"memory/{arm}",
            seeds[:1],
            memory,
            operator=arm,
            inputs=5 if arm == _BIHARMONIC else 50,
            batches=batches[:2],
        )
    return jobs


def _paper(arm: str, unit: str, than: str) -> float | str:
    published = _PUBLISHED.get((arm, unit))
    return published["collapsed"] / published[than] if published else "ours"


def _claims(settings: Settings) -> Sequence[Claim]:
    claims = []
    for arm, than, unit, most in (
        (_LAPLACIAN, "nested", "ms", 0.65),
        (_LAPLACIAN, "standard", "ms", 0.65),
        (_LAPLACIAN, "nested", "mib", 0.65),
        (_LAPLACIAN, "standard", "mib", 0.65),
        (_WEIGHTED, "nested", "ms", 0.65),
        (_WEIGHTED, "nested", "mib", 0.65),
        (_BIHARMONIC, "nested", "ms", 0.75),
        (_BIHARMONIC, "nested", "mib", 1.0),
    ):
        text = f"{_TITLES[arm]}: collapsed over {than}, {_UNITS[unit]} a datum."
        ours = _paper(arm, unit, than) == "ours"
        claims.append(
            Claim(
                id=f"{arm}-{_UNITS[unit]}-{than}",
                claim=text[:-1] + " (ours)." if ours else text,
                place=_PLACE,
                paper=_paper(arm, unit, than),
                statistic=_statistic(arm, than, unit),
                above=0.0,
                below=most,
                why_not=_COMPILED if unit == "mib" else "",
            )
        )
    for arm, title in _TITLES.items():
        claims.append(
            Claim(
                id=f"{arm}-equal",
                claim=f"{title}: every way gives the same numbers, float32 (ours).",
                place=_PLACE,
                paper="ours",
                statistic=geometric_mean("error", arm),
                below=1e-3,
            )
        )
    return claims


def _statistic(arm: str, than: str, unit: str) -> Statistic:
    def ratios(results: Results) -> Any:
        return _found(results, arm, "collapsed", unit) / _found(results, arm, than, unit)

    if unit == "ms":
        return computed_ratio(ratios)
    return exact(lambda results: ratios(results)[0], "planned by the compiler, nothing drawn")


def _found(results: Results, arm: str, way: str, unit: str) -> Any:
    """Return the costs of a way, one a seed; the memory once."""
    return results.metric(arm if unit == "ms" else f"memory/{arm}", f"{way}_{unit}")


def _mean(values: Any) -> float:
    """Return the geometric mean."""
    with np.errstate(invalid="ignore"):
        return float(np.exp(np.log(values).mean()))


def _ways(arm: str) -> Sequence[str]:
    return ("nested", "collapsed") if arm == _BIHARMONIC else ("nested", "standard", "collapsed")


def _tables(results: Results) -> Sequence[Table]:
    rows = []
    for arm, title in _TITLES.items():
        for unit, name in (("ms", "ms"), ("mib", "MiB")):
            published = _PUBLISHED.get((arm, unit), {})
            for way in _ways(arm):
                found = _mean(_found(results, arm, way, unit))
                base = _mean(_found(results, arm, "nested", unit))
                theirs, cell = published.get(way), "-"
                if theirs is not None:
                    cell = f"{theirs:.3g} ({theirs / published['nested']:.2f})"
                ours = f"{found:.3g} ({found / base:.2f})"
                rows.append([title, f"{way}, {name}", cell, ours])
    note = (
        "A datum's share: the slope over the batch size. In parentheses, relative to nested. "
        "Theirs ran on one RTX 6000 in PyTorch, ours on the processor that the report names, in "
        "milliseconds that all cores together spend, which other processes hardly change: only "
        "the ratios compare. Memory is what XLA plans for temporary arrays, without the fusions in "
        "which a library keeps its own. Their collapsed biharmonic is one series of fourth order, "
        "ours the Laplacian of a Laplacian, both collapsed."
    )
    return [Table("Cost of a datum", ["operator", "way", "published", "ours"], rows, note)]


def _figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    panels = [(arm, unit) for unit in _UNITS for arm in _TITLES]
    figure, axes = pyplot().subplots(2, 3, figsize=(9, 5), sharey=True, layout="constrained")
    for axis, (arm, unit) in zip(axes.flat, panels, strict=True):
        ways = _ways(arm)
        nested = _found(results, arm, "nested", unit)
        published = _PUBLISHED.get((arm, unit))
        for place, way in enumerate(ways):
            shares, color = _found(results, arm, way, unit) / nested, _COLORS[way]
            axis.bar(place, shares.mean(), color=color, alpha=0.6, width=0.7)
            axis.plot([place] * len(shares), shares, "o", color=color, ms=4)
            if published:
                axis.plot(place, published[way] / published["nested"], "kx", ms=8, zorder=5)
        axis.set_xticks(range(len(ways)), ways)
        axis.set_title(_TITLES[arm])
        if axis in axes[:, 0]:
            axis.set_ylabel(f"{_AXES[unit]} a datum, nested = 1")
    caption = (
        "Cost of a datum relative to nested derivatives: a dot a seed, the bar their mean, crosses "
        "the paper's figures."
    )
    return [(save(figure, folder / "costs.png").name, caption)]


PAPER = Paper(
    name="dangel2025",
    title="Dangel et al. 2025: Laplacians by collapsed Taylor mode",
    reference="Dangel, Siebert, Zeinhofer, Walther 2025, arXiv:2505.13644",
    scales={
        "quick": "The paper's network (tanh, 50-768-768-512-512-1; 5 inputs for the biharmonic), "
        "float32, batches of 8 to 32, on the processor at hand; a time is what its cores spend.",
        "full": "The paper's network, float32, batches of 8 to 64, on the processor at hand; a "
        "time is what its cores spend.",
    },
    jobs=_jobs,
    claims=_claims,
    tables=_tables,
    figures=_figures,
    left_out=lambda settings: (
        "Stochastic estimates of the operators.",
        "The biharmonic by standard Taylor mode: its figure is quoted, not measured.",
        "Weights with entries off the diagonal.",
    ),
)
