"""Mescheder et al. 2018: the Dirac-GAN circles without a penalty and converges with R1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from train.reproduce import (
    Claim,
    Job,
    Paper,
    Results,
    Settings,
    Statistic,
    Table,
    computed,
    exact,
    mean,
    measurement,
)
from train.reproduce.papers.mescheder2018._dirac import (
    CRITICAL,
    GAMMAS,
    STEP,
    derived,
    eigenvalues,
    paths,
    predicted_rates,
)
from train.reproduce.papers.mescheder2018._figures import figures

_COUNT = 2000
_STEPS = (0.05, 0.1, 0.2, 0.5)
_DAMPING = {0.5: "below", CRITICAL: "at", 2.0: "above"}
_AGREES = 1e-6
# Of the paper the statements of its abstract; the formulas were derived here.
_THEIRS, _OURS = "the paper's abstract, on the Dirac-GAN", "our derivation"


def _jobs(settings: Settings) -> Sequence[Job]:
    return [
        *measurement("eigenvalues", [0], eigenvalues, steps=list(_STEPS)),
        *measurement("paths", settings.each_seed, paths, count=_COUNT, steps=list(_STEPS)),
    ]


def _one(name: str) -> Statistic:
    return exact(lambda found: found.metric("eigenvalues", name)[0], "float64, nothing drawn")


def _worst(names: Sequence[str], pick: Callable[..., Any]) -> Statistic:
    return computed(lambda found: pick([found.metric("paths", name) for name in names], axis=0))


def _claims(settings: Settings) -> Sequence[Claim]:
    return [
        Claim(
            id="eigenvalues-unregularised",
            claim="Without a penalty the gradient field's Jacobian at the equilibrium has the "
            "eigenvalues +-i |f'(0)|: the distance of ours from them.",
            place=_OURS,
            paper="imaginary",
            statistic=_one("mismatch/0"),
            below=_AGREES,
        ),
        *(
            Claim(
                id=f"eigenvalues-{where}",
                claim=f"With R1 they are -gamma/2 +- sqrt(gamma^2/4 - f'(0)^2); {where} critical "
                f"damping, gamma = {gamma:g}: the distance of ours from them.",
                place=_OURS,
                paper="negative real parts",
                statistic=_one(f"mismatch/{gamma:g}"),
                below=_AGREES,
                about_penalty=True,
            )
            for gamma, where in _DAMPING.items()
        ),
        Claim(
            id="every-gamma-damps",
            claim=f"With R1 all real parts are negative for any gamma > 0: the largest, gamma from "
            f"{GAMMAS[1]:g} to {GAMMAS[-1]:g}.",
            place=_OURS,
            paper="negative",
            statistic=_one("least_damped"),
            below=-_AGREES,
            about_penalty=True,
        ),
        Claim(
            id="simultaneous-unstable",
            claim="Simultaneous steps without a penalty are unstable at every step size h, "
            "|1 + h lambda| > 1: the least over h, less 1.",
            place=_OURS,
            paper="above 0",
            statistic=_one("simultaneous"),
            above=_AGREES,
        ),
        Claim(
            id="simultaneous-does-not-converge",
            claim="So the distance to the equilibrium does not shrink: its final over its first "
            f"after {_COUNT // 4} steps, the least over h.",
            place=_THEIRS,
            paper="does not converge",
            statistic=_worst([f"growth/{step:g}" for step in _STEPS], np.min),
            above=1.0,
            unit="of the start's",
        ),
        Claim(
            id="alternating-on-the-unit-circle",
            claim="Alternating steps without a penalty have eigenvalues of modulus 1: the largest "
            "difference to 1 over h.",
            place=_OURS,
            paper="on the unit circle",
            statistic=_one("alternating"),
            below=_AGREES,
        ),
        Claim(
            id="alternating-not-nearer",
            claim=f"So they stay on a circle: the nearest of {_COUNT} steps ...",
            place=_OURS,
            paper="a circle",
            statistic=mean("nearest", "paths"),
            above=0.9,
            unit="of the start's distance",
        ),
        Claim(
            id="alternating-not-further",
            claim="... and the furthest.",
            place=_OURS,
            paper="a circle",
            statistic=mean("furthest", "paths"),
            below=1.1,
            unit="of the start's distance",
        ),
        Claim(
            id="r1-converges",
            claim=f"With R1 simultaneous steps converge: the distance left after {_COUNT} steps "
            "of its first, the largest over gamma = 0.5, 1 and 2.",
            place=_THEIRS,
            paper="converges",
            statistic=_worst([f"left/{gamma:g}" for gamma in _DAMPING], np.max),
            below=_AGREES,
            unit="of the start's",
            about_penalty=True,
        ),
        *(
            Claim(
                id=f"rate-{_DAMPING[gamma]}",
                claim="At the rate of the eigenvalues, -log max |1 + h lambda| a step "
                f"(gamma = {gamma:g}): the measured rate over that.",
                place=_OURS,
                paper=1.0,
                statistic=mean(
                    f"rate/{gamma:g}", "paths", scale=1 / predicted_rates()[GAMMAS.index(gamma)]
                ),
                above=0.98,
                below=1.02,
                unit="times",
                about_penalty=True,
            )
            for gamma in (0.5, 2.0)
        ),
        Claim(
            id="fastest-at-critical-damping",
            claim="It is fastest at critical damping, gamma = 2 |f'(0)|: the gamma of the largest "
            "measured rate.",
            place=_OURS,
            paper=CRITICAL,
            statistic=mean("fastest", "paths"),
            above=0.85,
            below=1.15,
            about_penalty=True,
        ),
    ]


def _tables(results: Results) -> Sequence[Table]:
    found = results.arrays("eigenvalues", 0)
    rows = []
    for gamma in (0.0, 0.1, *_DAMPING, 3.0):
        place = GAMMAS.index(gamma)
        ours = found["real"][place] + 1j * found["imaginary"][place]
        left = results.metric("paths", f"left/{gamma:g}")
        rates = results.metric("paths", f"rate/{gamma:g}")
        rows.append(
            [
                f"{gamma:g}",
                _pair(ours),
                _pair(derived([gamma])[0]),
                f"{results.metric('eigenvalues', f'mismatch/{gamma:g}')[0]:.1g}",
                f"{rates.mean():.5f}",
                f"{predicted_rates()[place]:.5f}",
                f"{left.max():.2g}",
            ]
        )
    columns = (
        "gamma",
        "eigenvalues, ours",
        "derived",
        "distance",
        "rate, ours",
        "rate derived",
        "left",
    )
    note = (
        f"Rate: minus the logarithm of the distance a step, h = {STEP:g}, mean over seeds of the "
        f"second half of {_COUNT} simultaneous steps. Below 0 is outwards; without a penalty the "
        "paths are by then too far out for the linear rate. At gamma = 1 the eigenvalue is a "
        "double one. Left: the largest distance of all seeds at the end, of the start's. "
        "The paper's (its abstract): training without a penalty does not always converge, this "
        "GAN being the example, and with zero-centred gradient penalties it does. Ours: the "
        "formulas of eigenvalues and rates, the circle of alternating steps and the fastest "
        "gamma, derived here and not compared with what the paper prints."
    )
    return [Table("Eigenvalues and rates", columns, rows, note)]


def _pair(values: Any) -> str:
    real = np.sort_complex(np.round(values, 6) + 0.0)
    if np.abs(real.imag).max() == 0:
        return f"{real[0].real:.4f}, {real[1].real:.4f}"
    return f"{real[0].real:.4f} ± {abs(real[0].imag):.4f} i"


PAPER = Paper(
    name="mescheder2018",
    title="Mescheder et al. 2018: the Dirac-GAN circles without a penalty and converges with R1",
    reference="Mescheder, Geiger and Nowozin 2018, Which Training Methods for GANs do actually "
    "Converge?, arXiv:1801.04406",
    scales={
        "quick": "Everything, in seconds and in float64: eigenvalues by jacreg.jacobian of the "
        "field, R1 by losses.gradient_penalty of target 0 and weight gamma / 2; one start a seed, "
        "at a distance of 0.5 to 1.5.",
        "full": "As quick: there is nothing to leave out.",
    },
    jobs=_jobs,
    claims=_claims,
    tables=_tables,
    figures=figures,
    left_out=lambda settings: (
        "Its other methods on the Dirac-GAN: instance noise, WGAN, WGAN-GP, consensus "
        "optimisation. R2 is not here either.",
        "Its theorem for general GANs, and its image models.",
    ),
)
