"""Finlay et al. 2020: flows that are easy to integrate, by two penalties along the path."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import CONFIGS, Job, Paper, Settings, training, uci
from train.reproduce.papers.rnode2020._claims import claims
from train.reproduce.papers.rnode2020._figures import figures, tables

_FOLDER = CONFIGS / "papers" / "rnode2020"
_ADAPTIVE = 'task.solver={name="dopri5",rtol=1e-5,atol=1e-5}'
_QUICK = ("training.steps=800", "data.batch_size=128", "data.num_test=500", "task.grid=0")


def _weights(weight: float) -> tuple[str, ...]:
    return (f"penalty.0.weight={weight:g}", f"penalty.1.weight={weight:g}")


_ARMS = {
    "adaptive/vanilla": (_ADAPTIVE, *_weights(0)),
    "adaptive/rnode": (_ADAPTIVE,),
    "fixed/vanilla": _weights(0),
    "fixed/rnode": (),
}


def _jobs(settings: Settings) -> Sequence[Job]:
    found, quick = [], _QUICK if settings.quick else ()
    for arm, overrides in _ARMS.items():
        found += training(arm, settings.each_seed, _FOLDER / "2d.toml", (*overrides, *quick))
    tables = {"{table}/vanilla": _weights(0), "{table}/rnode": ()}
    return [*found, *uci.runs(settings, _FOLDER / "table.toml", tables)]


PAPER = Paper(
    name="rnode2020",
    title="Finlay et al. 2020: how to train your neural ODE, in the plane and on tables",
    reference="Finlay, Jacobsen, Nurbekyan and Oberman 2020, How to train your neural ODE: the "
    "world of Jacobian and kinetic regularization (RNODE)",
    scales={
        "quick": "A checkerboard in the plane in place of images, 800 steps of 128 points in place "
        "of 5000 of 256; penalty weights, fixed step in training and adaptive solver of the test "
        "are the paper's. A test solve is one a run, and its evaluations come in sixes: five seeds "
        "are few for their ratio. With 1500 steps of 256 points "
        "(configs/flow/rnode-checkerboard.toml, three seeds, four solves a run) they are 61 to 66 "
        "with the penalties and 90 to 111 without.",
        "full": "A checkerboard in the plane in place of images, 5000 steps of 256 points; penalty "
        "weights, fixed step in training and adaptive solver of the test are the paper's.",
    },
    data=uci.FILES,
    jobs=_jobs,
    claims=claims,
    tables=tables,
    figures=figures,
    left_out=lambda settings: (
        "MNIST and CIFAR-10: one of their flows trains for 24 to 91 hours on a GPU. "
        "The paper's numbers for them stand beside ours as orderings. configs/flow/digits.toml "
        "is the same flow on 8x8 digits.",
        "Fixed steps that fail outright, as on the paper's images: the field of a small tanh "
        "network in the plane stays smooth enough for four steps. Their error is compared instead; "
        "the true likelihood after such a training is about the same with and without penalties.",
        "Evaluations of the field in training with the adaptive solver in both: the paper trains "
        "with penalties by fixed steps alone. The table has them.",
        "Hours of training: networks of the plane are too small for them to say anything, so "
        "evaluations of the field are counted; ms a step stand in the table.",
        *uci.left_out(settings),
    ),
)
