"""The loss of one batch: the task's term and the penalties, on one shared forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import jacreg
from train.errors import ConfigError
from train.methods import make_method
from train.penalties import PENALTIES
from train.schedules import SCHEDULES

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

    from train.config import Penalty


@dataclass(frozen=True)
class Term:
    """One penalty, ready to compute.

    Attributes:
        label: its name in the metrics.
        compute: `(lin, key) -> [N]`.
        weight: multiplies the batch mean.
        factor: the schedule that multiplies the weight.
        every: computed at each such step, with so many times the weight.
        shares_pass: uses the task's forward pass; otherwise one through running statistics.
    """

    label: str
    compute: Callable[[jacreg.Linearization, Any], Any]
    weight: float
    factor: Callable[[Any], Any]
    every: int
    shares_pass: bool

    def mean(self, lin: jacreg.Linearization, key: Array, step: Array) -> Float[Array, ""]:
        """Return the batch mean, times `every` at the steps that count and 0 at the others."""

        def computed() -> Array:
            return jnp.mean(self.compute(lin, key)).astype(jnp.float32)

        if self.every == 1:
            return computed()
        weight = jacreg.losses.every(self.every)(step)
        return weight * jax.lax.cond(weight > 0, computed, lambda: jnp.float32(0))


def make_terms(penalties: Sequence[Penalty], steps: int, coupled: bool) -> list[Term]:
    """Return the terms with a weight; one of weight 0 costs nothing and is left out.

    Args:
        penalties: `[[penalty]]` of the config.
        steps: length of training, for the schedules.
        coupled: in training mode the model's rows depend on each other (BatchNorm).

    Raises:
        ConfigError: a method does not fit its penalty or its statistics.
    """
    names = [penalty.name for penalty in penalties]
    terms = []
    for index, penalty in enumerate(penalties):
        compute = _bind(penalty, index, coupled)
        if penalty.weight == 0:
            continue
        unique = names.count(penalty.name) == 1
        label = penalty.name if unique else f"{penalty.name}_{index}"
        factor = SCHEDULES[penalty.schedule.name](steps, **penalty.schedule.options)
        shares_pass = not coupled or penalty.statistics == "batch"
        terms.append(Term(label, compute, penalty.weight, factor, penalty.every, shares_pass))
    return terms


def _bind(penalty: Penalty, index: int, coupled: bool) -> Callable[..., Any]:
    row = PENALTIES[penalty.name]
    options = dict(penalty.options)
    takes_method = "method" in inspect.signature(row).parameters
    blocks = coupled and penalty.statistics == "batch"
    if penalty.method is not None and not takes_method:
        raise ConfigError(
            f'penalty.{index}.method: got "{penalty.method.name}", but the penalty '
            f'"{penalty.name}" has only one way to be computed; leave it out.'
        )
    if blocks and not takes_method:
        raise ConfigError(
            f'penalty.{index}.statistics: got "batch", but with train-mode BatchNorm the penalty '
            f'"{penalty.name}" has no estimator of one example\'s Jacobian; expected "running".'
        )
    if penalty.method is not None:
        options["method"] = make_method(penalty.method)
    elif blocks:
        options["method"] = jacreg.CoupledBatch()
    if blocks and not isinstance(options["method"], jacreg.CoupledBatch):
        raise ConfigError(
            f'penalty.{index}.method: got "{penalty.method and penalty.method.name}", expected '
            '"coupled_batch": with statistics = "batch" and train-mode BatchNorm any other '
            "method mixes the examples of the batch."
        )
    return lambda lin, key: row(lin, key, **options)


def penalised(
    apply: Callable[..., Any],
    task_loss: Callable[[Any, Any], Any],
    terms: Sequence[Term],
) -> Callable[..., Any]:
    """Return the objective `(params, state, xs, targets, keys, step) -> (loss, (state, metrics))`.

    Args:
        apply: `(params, state, xs, train, key) -> (ys, state)`, of `functional`.
        task_loss: `(ys, targets) -> [N]`.
        terms: from `make_terms`.

    `keys` is a pair: the model's (dropout, shared by task and penalties) and the penalties'.
    """
    shared = [term for term in terms if term.shares_pass]
    apart = [term for term in terms if not term.shares_pass]

    def objective(params: PyTree, state: PyTree, xs: Any, targets: Any, keys: Any, step: Any):
        model_key, penalty_key = keys

        def train_pass(xs: Any) -> Any:
            return apply(params, state, xs, train=True, key=model_key)

        passes = {}
        if shared:
            passes[True] = jacreg.linearize(train_pass, xs, has_aux=True)
            ys, new_state = passes[True].value, passes[True].aux
        else:
            ys, new_state = train_pass(xs)
        if apart:
            passes[False] = jacreg.linearize(lambda xs: apply(params, state, xs)[0], xs)
        loss = jnp.mean(task_loss(ys, targets)).astype(jnp.float32)
        metrics = {"task_loss": loss}
        for index, term in enumerate(terms):
            value = term.mean(
                passes[term.shares_pass], jax.random.fold_in(penalty_key, index), step
            )
            metrics[f"penalty/{term.label}"] = value
            loss = loss + term.weight * term.factor(step) * value
        return loss, (new_state, {"loss": loss, **metrics})

    return objective
