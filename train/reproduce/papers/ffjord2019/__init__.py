"""Grathwohl et al. 2019: continuous flows with an unbiased divergence in one product."""

from __future__ import annotations

from train.reproduce import Paper, uci
from train.reproduce.papers.ffjord2019._claims import claims
from train.reproduce.papers.ffjord2019._figures import figures, tables
from train.reproduce.papers.ffjord2019._plan import jobs

PAPER = Paper(
    name="ffjord2019",
    title="Grathwohl et al. 2019: FFJORD on densities in the plane",
    reference="Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud 2019, FFJORD: Free-form "
    "Continuous Dynamics for Scalable Reversible Generative Models (ICLR)",
    scales={
        "quick": "400 steps of 256 points at rate 0.01 (falling to 0) with four steps of rk4 in "
        "place of 10 000 of 100 at 0.001 with dopri5; five of the eight densities with one seed, "
        "for the pictures alone. Network, exact trace and adaptive test solver are the paper's. "
        "After a twenty-fifth of the paper's steps circles, 2-spirals and rings, which begin as "
        "one round heap, have not come apart.",
        "full": "The paper's protocol in the plane: eight densities, 64-64-64 tanh, exact trace, "
        "dopri5 at 1e-5, 10 000 steps of 100 points, rate 0.001, weight decay 1e-5.",
    },
    data=uci.FILES,
    jobs=jobs,
    claims=claims,
    tables=tables,
    figures=figures,
    left_out=lambda settings: (
        "POWER, GAS, HEPMASS, MINIBOONE and BSDS300 (test NLL -0.46, -8.59, 14.92, 10.43 and "
        "-157.40 nats in the paper): no loader for their files.",
        "MNIST and CIFAR-10 (0.99 and 3.40 bits a dimension in the paper): an image flow does not "
        "converge in hours. configs/flow/digits.toml is one on 8x8 digits.",
        "The end time of the flow, which the paper learns, is 0.5 here, its start.",
        "Evaluations against the Jacobian norm, and penalties: see rnode2020.",
        *uci.left_out(settings),
    ),
)
