"""The penalties of a config as terms of the loss, ready to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import jacreg
from train.errors import ConfigError
from train.expect import keys_of
from train.methods import Deferred, make_method
from train.own_penalty import own_penalty
from train.penalties import PENALTIES, Sources
from train.schedules import make_schedule

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from train.sections import Penalty

# What a penalty on the Jacobian reads under BatchNorm, by its `statistics`.
HELD, RUNNING = "held_lin", "running_lin"
_SOURCES = {"held": HELD, "running": RUNNING, "batch": "lin"}


@dataclass(frozen=True)
class Term:
    """One penalty, ready to compute.

    Attributes:
        label: its name in the metrics.
        compute: `(*sources, key) -> [N]`.
        weight: multiplies the batch mean.
        factor: the schedule that multiplies the weight.
        reads: the fields of `Sources` that `compute` takes, in order.
        every: computed at each such step, with so many times the weight.
        probability: computed at a random step with this probability, with 1 / probability
            times the weight.
        fraction: of the batch's rows that it sees; its mean is over these.
    """

    label: str
    compute: Callable[..., Any]
    weight: float
    factor: Callable[[Any], Any]
    reads: tuple[str, ...] = ("lin",)
    every: int = 1
    probability: float = 1.0
    fraction: float = 1.0

    def due(self, step: int) -> bool:
        """Return whether `every` lets it be computed at a step that is known on the host."""
        return step % self.every == 0

    def mean(
        self, sources: Sources, key: Array, step: Array, due: bool | None = None
    ) -> Float[Array, ""]:
        """Return the batch mean, reweighted at the steps that count and 0 at the others.

        Args:
            due: `self.due(step)` where it is known as the program is made, so that the program of
                a step that does not count has no penalty in it.
        """
        if due is False:
            return jnp.float32(0)
        read = [getattr(sources, name) for name in self.reads]
        draw_key, key = jax.random.split(key) if self.probability < 1 else (None, key)

        def computed() -> Array:
            return jnp.mean(self.compute(*read, key).astype(jnp.float32))

        if self.probability == 1 and (due or self.every == 1):
            return computed() if self.every == 1 else self.every * computed()
        weight = jacreg.losses.every(self.every)(step)
        if self.probability < 1:
            weight = weight * jacreg.losses.bernoulli(self.probability, key=draw_key)(step)
        return weight * jax.lax.cond(weight > 0, computed, lambda: jnp.float32(0))


def make_terms(
    penalties: Sequence[Penalty],
    steps: int,
    coupled: bool = False,
    *,
    offers: Iterable[str] = ("lin",),
    resolve: Callable[..., Any] | None = None,
) -> list[Term]:
    """Return the terms with a weight; one of weight 0 costs nothing and is left out.

    Args:
        coupled: in training mode the model's rows depend on each other (BatchNorm).
        offers: the sources that the task's forward pass can make.
        resolve: makes a method that depends on the task's function, such as a colouring: a
            `Resolver`.

    Raises:
        ConfigError: a penalty does not fit the task, or a method its penalty or statistics.
    """
    names = [penalty.name for penalty in penalties]
    terms = []
    for index, penalty in enumerate(penalties):
        reads = _reads(penalty, index, frozenset(offers), coupled)
        compute = _bind(penalty, index, coupled, resolve)
        if penalty.weight == 0:
            continue
        unique = names.count(penalty.name) == 1
        if coupled:
            source = _SOURCES[penalty.statistics]
            reads = tuple(source if name == "lin" else name for name in reads)
        terms.append(
            Term(
                label=penalty.name if unique else f"{penalty.name}_{index}",
                compute=compute,
                weight=penalty.weight,
                factor=make_schedule(penalty.schedule, steps),
                reads=reads,
                every=penalty.every,
                probability=penalty.probability,
                fraction=penalty.fraction,
            )
        )
    return terms


def statistics_note(terms: Sequence[Term], coupled: bool) -> dict[str, Any]:
    """Return what a summary records of BatchNorm: which statistics each penalty sees."""
    names = {source: name for name, source in _SOURCES.items()} if coupled else {}
    passes = {
        term.label: next((names[each] for each in term.reads if each in names), "shared pass")
        for term in terms
    }
    return {"penalty_statistics": passes, "rows_independent": not coupled}


def _reads(penalty: Penalty, index: int, offers: frozenset[str], coupled: bool) -> tuple[str, ...]:
    reads = ("lin",) if penalty.given is not None else PENALTIES[penalty.name].reads
    missing = [name for name in reads if name not in offers]
    if missing:
        fitting = [f'"{name}"' for name, row in PENALTIES.items() if offers.issuperset(row.reads)]
        why = "this task does not give that"
        if coupled and missing == ["task_loss"]:
            why = "with BatchNorm the rows of a batch share a loss, so that no example has its own"
        raise ConfigError(
            f'penalty.{index}.name: got "{penalty.name}", which reads {" and ".join(missing)}; '
            f"{why}. Penalties that fit: {', '.join(fitting) or 'none'}."
        )
    return reads


def _bind(
    penalty: Penalty, index: int, coupled: bool, resolve: Callable[..., Any] | None
) -> Callable[..., Any]:
    row = penalty.given or PENALTIES[penalty.name].compute
    options = dict(penalty.options)
    takes_method = penalty.given is None and "method" in keys_of(row)
    blocks = coupled and penalty.statistics == "batch"
    if penalty.every != 1 and penalty.probability != 1:
        raise ConfigError(
            f"penalty.{index}: got every = {penalty.every} and probability = "
            f"{penalty.probability:g}, expected one of the two."
        )
    if penalty.fraction < 1 and coupled and penalty.statistics != "running":
        raise ConfigError(
            f"penalty.{index}.fraction: got {penalty.fraction:g} with train-mode BatchNorm, whose "
            "statistics would be those of the picked rows alone; expected 1. What computes a "
            "penalty at some steps alone is `every`."
        )
    if penalty.method is not None and not takes_method:
        raise ConfigError(
            f'penalty.{index}.method: got "{penalty.method.name}", but the penalty '
            f'"{penalty.name}" has only one way to be computed; leave it out.'
        )
    if blocks and not takes_method:
        raise ConfigError(
            f'penalty.{index}.statistics: got "batch", but with train-mode BatchNorm the penalty '
            f'"{penalty.name}" has no estimator of one example\'s Jacobian; expected "held".'
        )
    if penalty.method is not None:
        method = make_method(penalty.method, f"penalty.{index}.method")
        if isinstance(method, Deferred):
            method = _resolved(method, resolve, penalty.statistics)
        options["method"] = method
    elif blocks:
        options["method"] = jacreg.CoupledBatch()
    if blocks and not isinstance(options["method"], jacreg.CoupledBatch):
        raise ConfigError(
            f'penalty.{index}.method: got "{penalty.method and penalty.method.name}", expected '
            '"coupled_batch": with statistics = "batch" and train-mode BatchNorm any other '
            "method mixes the examples of the batch."
        )
    if penalty.given is not None:
        return own_penalty(penalty.given, index)

    def compute(*sources: Any) -> Any:
        try:
            return row(*sources, **options)
        except TypeError as error:
            if penalty.method is None:
                raise
            raise ConfigError(f"penalty.{index}.method: {error}") from None

    return compute


def _resolved(method: Deferred, resolve: Callable[..., Any] | None, statistics: str) -> Any:
    if resolve is None:
        raise ConfigError(
            f'{method.path}: got "{method.name}", which this task has no function for; expected '
            '"exact" or "projection".'
        )
    return resolve(method, statistics=statistics)
