"""Hoffman, Roberts and Yaida 2019: tables 1 and 2, noise, attacks, decision cells, probes."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import Paper, Settings
from train.reproduce.papers.hoffman2019._claims import claims
from train.reproduce.papers.hoffman2019._jobs import jobs
from train.reproduce.papers.hoffman2019._show import figures, tables


def _left_out(settings: Settings) -> Sequence[str]:
    found = [
        "The FGSM-trained baseline: there is no adversarial training here.",
        "CIFAR-10 and ResNet-18 under PGD (in the paper not consistently better either).",
    ]
    if "usps" not in settings.data:
        found.append("USPS (`--data usps=FOLDER`): the digits of scikit-learn stand in for it.")
    if settings.quick and "mnist" not in settings.data:
        found.append("The printed accuracy of the official MLP: it needs `--data mnist=FOLDER`.")
    return found


PAPER = Paper(
    name="hoffman2019",
    title="Hoffman et al. 2019: robust learning with Jacobian regularization",
    reference="Hoffman, Roberts and Yaida 2019, Robust Learning with Jacobian Regularization, "
    "arXiv:1908.02729",
    scales={
        "quick": "4000 digits of MNIST (1000 to test) where `--data mnist` is not given, batch 50, "
        "200 steps (400 with all data) instead of 250 epochs, norms over 250 images, attacks on "
        "200, the MLP for 600 steps; the networks, rates and weights are the paper's.",
        "full": "The paper's protocol: 250 epochs, batch 100, rate / 10 at each third.",
    },
    data={
        "mnist": "MNIST as parquet or IDX files (full scale: from the hub where not given)",
        "usps": "USPS as parquet, for table 2",
    },
    jobs=jobs,
    claims=claims,
    tables=tables,
    figures=figures,
    left_out=_left_out,
)
