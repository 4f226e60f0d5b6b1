"""The training step: pure and jitted, with its state donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.memory import in_parts, rematerialised
from train.parallel import split_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree

MODEL_PURPOSE, PENALTY_PURPOSE, INIT_PURPOSE, EVALUATION_PURPOSE = range(4)


class TrainState(NamedTuple):
    """All that a run carries from step to step, and so all that a checkpoint holds.

    Attributes:
        step: steps taken.
        params, model_state, opt_state: pytrees of the model and the optimiser.
        sums: sums of the metrics since the last log line.
        first_bad: the first step whose loss or gradient was not finite, -1 for none.
    """

    step: Int[Array, ""]
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    sums: dict[str, Array]
    first_bad: Int[Array, ""]


def purpose_key(seed: int, purpose: int) -> Array:
    """Return the key of one purpose; fold the step in to get the key of a step."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


def init_state(
    params: PyTree,
    model_state: PyTree,
    optimizer: optax.GradientTransformation,
    metric_names: list[str],
) -> TrainState:
    """Return the state before the first step; its arrays may be donated."""

    def fresh(tree: PyTree) -> PyTree:
        return jax.tree.map(jnp.copy, tree)

    return TrainState(
        jnp.int32(0),
        fresh(params),
        fresh(model_state),
        fresh(optimizer.init(params)),
        zero_sums(metric_names),
        jnp.int32(-1),
    )


def zero_sums(metric_names: list[str]) -> dict[str, Array]:
    """Return metric sums after a log line."""
    return {name: jnp.zeros((), jnp.float32) for name in metric_names}


class StepKeys(NamedTuple):
    """One key a purpose; a step folds its number in."""

    model: Array
    penalty: Array

    @classmethod
    def of(cls, seed: int) -> StepKeys:
        """Return the keys of a seed."""
        return cls(purpose_key(seed, MODEL_PURPOSE), purpose_key(seed, PENALTY_PURPOSE))


def make_step(
    objective: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    remat: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Callable[..., TrainState]:
    """Return the pure step `(state, xs, targets, keys) -> state`.

    Where the objective says that its pass failed (`Outcome.usable`), parameters, model and
    optimiser stay as they are; the step counts. `accumulate` and `remat`: see `train.memory`.
    """
    if remat:
        objective = rematerialised(objective)
    gradient = in_parts(jax.value_and_grad(objective, has_aux=True), accumulate, mesh)

    def step(state: TrainState, xs: Any, targets: Any, keys: StepKeys) -> TrainState:
        keys = StepKeys(*(jax.random.fold_in(key, state.step) for key in keys))
        (loss, (model_state, metrics, usable)), grads = gradient(
            state.params, state.model_state, xs, targets, keys, state.step
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        norm = optax.tree.norm(grads)
        if usable is not None:
            norm = jnp.where(usable, norm, 0)
            model_state, opt_state, updates = jax.tree.map(
                lambda new, old: jnp.where(usable, new, old),
                (model_state, opt_state, updates),
                (state.model_state, state.opt_state, jax.tree.map(jnp.zeros_like, updates)),
            )
        healthy = jnp.isfinite(loss) & jnp.isfinite(norm)
        first_bad = jnp.where((state.first_bad < 0) & ~healthy, state.step + 1, state.first_bad)
        metrics = {**metrics, "gradient_norm": norm}
        return TrainState(
            state.step + 1,
            optax.apply_updates(state.params, updates),
            model_state,
            opt_state,
            {name: state.sums[name] + metrics[name] for name in state.sums},
            first_bad,
        )

    return step


def make_training_step(
    step: Callable[..., TrainState],
    prepare: Callable[[Any], Any],
    mesh: jax.sharding.Mesh | None = None,
) -> Callable[..., TrainState]:
    """Return the jitted `(state, examples, order, first, keys) -> state` for one step.

    All arguments stay on the device and the call returns at once, so steps queue up
    without a host round trip. (A `fori_loop` over steps would do the same in one
    call, but XLA runs convolutions inside a loop on one CPU core, 2.5 times slower.)

    Args:
        prepare: raw rows of the examples to `(xs, targets)`.

    The step takes the examples `order[state.step - first]`. The keys are arguments, so
    that all seeds run one program.
    """

    def training_step(
        state: TrainState, examples: Any, order: Any, first: Any, keys: StepKeys
    ) -> TrainState:
        chosen = order[state.step - first]
        rows = jax.tree.map(lambda array: array[chosen], examples)
        return step(state, *prepare(split_rows(rows, mesh)), keys)

    return jax.jit(training_step, donate_argnums=0)


class BatchOrder:
    """Which examples make the batch of a step: a function of the seed and the step alone.

    The examples come in one random order an epoch, epoch after epoch, cut into
    batches without regard to where an epoch ends: no example is left out.
    """

    def __init__(self, num_examples: int, batch_size: int, seed: int) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self._epochs: dict[int, np.ndarray] = {}

    def rows(self, first_step: int, count: int) -> Int[np.ndarray, "count batch"]:
        """Return the row numbers of `count` batches."""
        first = first_step * self.batch_size
        positions = np.arange(first, first + count * self.batch_size, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_examples)
        rows = np.empty(len(positions), np.int32)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            rows[chosen] = self._epoch(int(epoch))[offsets[chosen]]
        return rows.reshape(count, self.batch_size)

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            for old in [each for each in self._epochs if each < epoch - 1]:
                del self._epochs[old]
            rng = np.random.default_rng([self.seed, epoch])
            self._epochs[epoch] = rng.permutation(self.num_examples).astype(np.int32)
        return self._epochs[epoch]
