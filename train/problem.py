"""What a task hands to the loop: start values, an objective, an evaluation, a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

    from train.batches import Batches
    from train.methods import Chosen
    from train.sections import Data, Evaluation, Model, Penalty, Training


@dataclass(frozen=True)
class Setting:
    """What a task is told of a run beside its data and its own options.

    Attributes:
        seed: of the experiment.
        data, model, penalty, training, evaluation: the sections of the config that tasks read.
        batches: how the evaluation goes through examples.
    """

    seed: int
    data: Data
    model: Model
    penalty: tuple[Penalty, ...]
    training: Training
    evaluation: Evaluation
    batches: Batches


class Outcome(NamedTuple):
    """What an objective gives beside the loss.

    Attributes:
        state: the model's, after the batch.
        metrics: scalars that are recorded; `loss` is one of them.
        usable: False where the pass failed, so that the step is to change nothing; None where a
            pass cannot fail.
    """

    state: PyTree
    metrics: dict[str, Float[Array, ""]]
    usable: Bool[Array, ""] | None = None


@dataclass(frozen=True)
class Phase:
    """An earlier part of training, with an objective of its own.

    Attributes:
        end: the step at which the next phase begins; the optimiser goes on.
        objective: as the problem's, with the same metrics.
        evaluate: `(params, state) -> metrics`, measured once at the end of the phase; the names
            start with the phase's own, such as `pretrain/`.
    """

    end: int
    objective: Callable[..., Any]
    evaluate: Callable[[Any, Any], dict[str, float]]


@dataclass(frozen=True)
class Problem:
    """A task on a data set with a model, ready to train.

    Attributes:
        params, state: the model's start values.
        examples: arrays that share their first axis; batches are rows of all of them.
        prepare: rows of `examples` to `(xs, targets)`, jitted into the step.
        objective: `(params, state, xs, targets, keys, step) -> (loss, Outcome)`; `keys` is the pair
            (model, penalties).
        earlier: phases before that of `objective`, in order.
        evaluate: `(params, state, final) -> metrics`; everything where `final`, what is
            quick otherwise.
        report: `(params, state, workdir)`, called once at the end: writes arrays and figures.
        check: `(step, metrics)`, called after each line of metrics is written and on those of the
            final evaluation; stops the run by raising DivergedError, or returns what the user
            should know.
        rows_independent: whether a row of a batch in training has no part in another's output; with
            BatchNorm it has.
        choices: the methods that `choose` chose.
        notes: what the summary records beside the metrics; nothing depends on them.
        network: the task's own view of the model, for measurements after training; what it is, the
            task says.
    """

    params: PyTree
    state: PyTree
    examples: Mapping[str, np.ndarray]
    prepare: Callable[[Any], Any]
    objective: Callable[..., Any]
    evaluate: Callable[[Any, Any, bool], dict[str, float]]
    report: Callable[[Any, Any, Path], None] = lambda params, state, workdir: None
    check: Callable[[int, Mapping[str, float]], str | None] = lambda step, metrics: None
    rows_independent: bool = True
    choices: tuple[Chosen, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    earlier: tuple[Phase, ...] = ()
    network: Any = None
