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
from train.penalties import Sources, TaskLoss
from train.problem import Outcome
from train.terms import HELD, RUNNING, Term

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
        sources: what penalties read: at least what was asked for.
        metrics: scalars to record beside the losses.
        usable: False where the pass failed, so that the step is to change nothing; None where
            a pass cannot fail.
    """

    losses: Float[Array, " N"]
    state: PyTree
    sources: Sources = field(default_factory=Sources)
    metrics: Mapping[str, Float[Array, ""]] = field(default_factory=dict)
    usable: Bool[Array, ""] | None = None


@dataclass(frozen=True)
class Objective:
    """`(params, state, xs, targets, keys, step) -> (loss, Outcome)`.

    `keys` is a pair: the model's (dropout, shared by task and penalties) and the penalties'.

    Attributes:
        forward: the task's pass.
        terms: from `make_terms`.
        splits: the pass of a batch is that of its rows one by one, so it may be taken in two parts.
        due: of each term, whether it is computed, where the steps that run this program are
            known; None where the step decides on the device.
    """

    forward: Forward
    terms: tuple[Term, ...]
    splits: bool = False
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
    ) -> tuple[Float[Array, ""], Outcome]:
        """Return the loss of a batch, and beside it the model's state after it and the metrics."""
        due = self.due or (None,) * len(self.terms)
        model_key, penalty_key = keys
        whole, parts = self._passes(params, state, xs, targets, model_key, due)
        loss = jnp.mean(whole.losses.astype(jnp.float32))
        metrics = {"task_loss": loss, **whole.metrics}
        for index, (term, now) in enumerate(zip(self.terms, due, strict=True)):
            key = jax.random.fold_in(penalty_key, index)
            value = term.mean(parts.get(term.fraction, Sources()), key, step, now)
            metrics[f"penalty/{term.label}"] = value
            loss = loss + term.weight * term.factor(step) * value
        return loss, Outcome(whole.state, {"loss": loss, **metrics}, whole.usable)

    def _passes(
        self,
        params: PyTree,
        state: PyTree,
        xs: Any,
        targets: Any,
        key: Array,
        due: Sequence[bool | None],
    ) -> tuple[Pass, dict[float, Sources]]:
        """Return the pass of the whole batch, and the sources of each fraction of its rows.

        A batch is drawn at random, so its first rows are random ones. What a penalty reads of them
        needs a pass of its own, unless the batch's pass is split into theirs and the others'.
        """

        def forward(rows: slice, key: Array, needs: frozenset[str]) -> Pass:
            cut, cut_targets = jax.tree.map(lambda leaf: leaf[rows], (xs, targets))
            return self.forward(params, state, cut, cut_targets, key, needs)

        size = len(jax.tree.leaves(xs)[0])
        needs: dict[float, frozenset[str]] = {}
        for term, now in zip(self.terms, due, strict=True):
            if now is not False:
                needs[term.fraction] = needs.get(term.fraction, frozenset()) | set(term.reads)
        first = {each: slice(max(1, round(each * size))) for each in needs}
        parted = self.splits and len(needs) == 1 and 1.0 not in needs
        if parted and max(each.stop for each in first.values()) < size:
            ((fraction, read),) = needs.items()
            rest = slice(first[fraction].stop, None)
            seen, other = (
                forward(first[fraction], key, read),
                forward(rest, jax.random.fold_in(key, 1), frozenset()),
            )
            losses = jnp.concatenate([seen.losses, other.losses])
            return Pass(losses, seen.state), {fraction: seen.sources}
        whole = self.forward(params, state, xs, targets, key, needs.pop(1.0, frozenset()))
        parts = {each: forward(first[each], key, read).sources for each, read in needs.items()}
        return whole, {1.0: whole.sources, **parts}


def penalised(forward: Forward, terms: Sequence[Term], splits: bool = False) -> Objective:
    """Return the objective of a task's pass with these terms."""
    return Objective(forward, tuple(terms), splits)


def supervised(apply: Callable[..., Any], task_loss: Callable[[Any, Any], Any]) -> Forward:
    """Return the pass of a task that compares outputs with targets.

    It offers `lin`, the linearised training pass; `held_lin`, the same with the statistics of its
    batch held; `running_lin`, through running statistics; and `task_loss`, which has a meaning
    where the rows of the batch do not depend on each other.

    Args:
        apply: `(params, state, xs, train, key) -> (ys, state)`, of `functional`.
        task_loss: `(ys, targets) -> [N]`.
    """

    def forward(
        params: PyTree, state: PyTree, xs: Any, targets: Any, key: Array, needs: frozenset[str]
    ) -> Pass:
        def train_pass(xs: Any) -> Any:
            return apply(params, state, xs, train=True, key=key)

        lin = held_lin = running_lin = None
        if HELD in needs:
            held = jacreg.hold_statistics(train_pass, xs)
            # Without the state, as the function of which a colouring is made.
            held_lin = jacreg.linearize(lambda xs: held(xs)[0], xs)
        if "lin" in needs:
            lin = jacreg.linearize(train_pass, xs, has_aux=True)
            ys, new_state = lin.value, lin.aux
        elif held_lin is not None:
            # The values are those of the training pass, with all of its derivatives.
            ys, new_state = held_lin.value, held(xs)[1]
        else:
            ys, new_state = train_pass(xs)
        if RUNNING in needs:
            running_lin = jacreg.linearize(lambda xs: apply(params, state, xs)[0], xs)
        loss_of = TaskLoss(lambda xs, targets: task_loss(train_pass(xs)[0], targets), xs, targets)
        sources = Sources(lin, held_lin, running_lin, task_loss=loss_of)
        return Pass(task_loss(ys, targets), new_state, sources)

    return forward
