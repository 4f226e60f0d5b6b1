"""The loss of one batch: the task's term and the penalties, on one shared forward pass.

A task gives a `Forward`: from parameters and a batch to the losses and to the sources that
penalties may read, made once and shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import jacreg
from train.memory import USABLE
from train.penalties import TaskLoss
from train.terms import RUNNING, Term

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

    # `(params, state, xs, targets, model_key, needs) -> Pass`; `needs` are the sources that
    # some term reads, so that a pass makes no other.
    Forward = Callable[[PyTree, PyTree, Any, Any, Array, frozenset[str]], "Pass"]

# Terms of `every` that get programs of their own: at most so many, in four programs.
_MOST_SPARSE = 2


@dataclass(frozen=True)
class Pass:
    """What one forward pass of a task gives.

    Attributes:
        losses: the task's loss of each example, `[N]`.
        state: the model's state after the pass.
        sources: what penalties read, by name: at least those that were asked for.
        metrics: scalars to record beside the losses.
        usable: False where the pass failed, so that the step is to change nothing; None where
            a pass cannot fail.
    """

    losses: Float[Array, " N"]
    state: PyTree
    sources: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Float[Array, ""]] = field(default_factory=dict)
    usable: Bool[Array, ""] | None = None


@dataclass(frozen=True)
class Objective:
    """`(params, state, xs, targets, keys, step) -> (loss, (state, metrics))`.

    `keys` is a pair: the model's (dropout, shared by task and penalties) and the penalties'.

    Attributes:
        forward: the task's pass.
        terms: from `make_terms`.
        due: of each term, whether it is computed, where the steps that run this program are
            known; None where the step decides on the device.
    """

    forward: Forward
    terms: tuple[Term, ...]
    due: tuple[bool, ...] | None = None

    def at(self, step: int) -> Objective:
        """Return the objective of the program that takes the step after `step`.

        A term of `every = k` is in one program and not in the other, which is then that of
        training without it: a condition on the device would keep all that the penalty may read,
        and XLA's convolutions inside it run slower on CPU. Equal for steps of one program.
        """
        if sum(term.every > 1 for term in self.terms) not in range(1, _MOST_SPARSE + 1):
            return self
        return replace(self, due=tuple(term.due(step) for term in self.terms))

    def __call__(
        self, params: PyTree, state: PyTree, xs: Any, targets: Any, keys: Any, step: Any
    ) -> tuple[Float[Array, ""], tuple[PyTree, dict[str, Any]]]:
        """Return the loss of a batch, the model's state after it and the metrics."""
        due = self.due or (None,) * len(self.terms)
        terms = list(zip(self.terms, due, strict=True))
        needs = frozenset(name for term, now in terms if now is not False for name in term.reads)
        model_key, penalty_key = keys
        found = self.forward(params, state, xs, targets, model_key, needs)
        loss = jnp.mean(found.losses.astype(jnp.float32))
        metrics = {"task_loss": loss, **found.metrics}
        for index, (term, now) in enumerate(terms):
            value = term.mean(found.sources, jax.random.fold_in(penalty_key, index), step, now)
            metrics[f"penalty/{term.label}"] = value
            loss = loss + term.weight * term.factor(step) * value
        if found.usable is not None:
            metrics[USABLE] = found.usable
        return loss, (found.state, {"loss": loss, **metrics})


def penalised(forward: Forward, terms: Sequence[Term]) -> Objective:
    """Return the objective of a task's pass with these terms."""
    return Objective(forward, tuple(terms))


def supervised(apply: Callable[..., Any], task_loss: Callable[[Any, Any], Any]) -> Forward:
    """Return the pass of a task that compares outputs with targets.

    It offers `lin`, the linearised training pass, `running_lin`, through running statistics, and
    `task_loss`, which has a meaning where the rows of the batch do not depend on each other.

    Args:
        apply: `(params, state, xs, train, key) -> (ys, state)`, of `functional`.
        task_loss: `(ys, targets) -> [N]`.
    """

    def forward(
        params: PyTree, state: PyTree, xs: Any, targets: Any, key: Array, needs: frozenset[str]
    ) -> Pass:
        def train_pass(xs: Any) -> Any:
            return apply(params, state, xs, train=True, key=key)

        sources: dict[str, Any] = {}
        if "lin" in needs:
            lin = sources["lin"] = jacreg.linearize(train_pass, xs, has_aux=True)
            ys, new_state = lin.value, lin.aux
        else:
            ys, new_state = train_pass(xs)
        if RUNNING in needs:
            sources[RUNNING] = jacreg.linearize(lambda xs: apply(params, state, xs)[0], xs)
        sources["task_loss"] = TaskLoss(
            lambda xs, targets: task_loss(train_pass(xs)[0], targets), xs, targets
        )
        return Pass(task_loss(ys, targets), new_state, sources)

    return forward
