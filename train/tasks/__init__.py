"""Tasks by name. Adding one is adding a file and its row in `TASKS`.

A row is `(config, dataset, *, options) -> Problem`; its keyword-only parameters are
the further keys of `[task]`.
"""

from collections.abc import Callable, Mapping

from train.problem import Problem
from train.tasks._autoencoder import autoencoder
from train.tasks._classification import classification
from train.tasks._equilibrium import equilibrium
from train.tasks._flow import flow
from train.tasks._regression import regression
from train.tasks._score import score

TASKS: Mapping[str, Callable[..., Problem]] = {
    "classification": classification,
    "equilibrium": equilibrium,
    "flow": flow,
    "regression": regression,
    "score": score,
    "autoencoder": autoencoder,
}
