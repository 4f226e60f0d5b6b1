"""Novak et al. 2018: the norm of the Jacobian and generalisation, over many small networks."""

from __future__ import annotations

from train.reproduce import Paper
from train.reproduce.papers.novak2018._claims import claims
from train.reproduce.papers.novak2018._figures import figures, tables
from train.reproduce.papers.novak2018._jobs import jobs

_COMMON = (
    "The paper's protocol was not found beyond its abstract; ours: dense networks that differ in "
    "seed, gain of the initial kernels (0.5 to 3 times 1 / sqrt(fan-in)), labels, batch and "
    "activation, momentum 0.9 and rate 0.02, each trained until its training loss is 0.01, so that "
    "all fit their labels equally well. J is that of the class probabilities in the pixels."
)

PAPER = Paper(
    name="novak2018",
    title="Novak et al. 2018: the norm of the Jacobian goes with generalisation",
    reference="Novak, Bahri, Abolafia, Pennington and Sohl-Dickstein 2018, "
    "Sensitivity and Generalization in Neural Networks: an Empirical Study",
    scales={
        "quick": f"{_COMMON} Quick: 300 of 5000 MNIST digits, two hidden layers of 64, "
        "five networks a setting and seed.",
        "full": f"{_COMMON} Full: 1000 of 5000 MNIST digits, two hidden layers of 256, sixteen "
        "networks a setting and seed.",
    },
    jobs=jobs,
    claims=claims,
    tables=tables,
    figures=figures,
    left_out=lambda settings: (
        "The paper's own data sets and its thousands of networks: only its abstract's orderings "
        "were found.",
        "Kinds of data augmentation other than shifts. On scikit-learn's 8x8 digits, where the "
        "protocol was first tried, a shift of one pixel moves an eighth of the image, and the norm "
        "rose; MNIST took their place for that.",
    ),
)
