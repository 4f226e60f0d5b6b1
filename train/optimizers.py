"""Optimisers by name: optax chains from `[optimizer]`. Adding one is adding a row.

Each row is a function `(rate, momentum, weight_decay) -> optax.GradientTransformation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
import optax.tree_utils as trees

from train.schedules import make_schedule

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from train.sections import Optimizer


def sgd(rate: optax.Schedule, momentum: float, weight_decay: float):
    """Stochastic gradient descent; the L2 term enters the momentum, as in PyTorch."""
    return optax.chain(_decay(weight_decay), optax.sgd(rate, momentum or None))


def adam(rate: optax.Schedule, momentum: float, weight_decay: float):
    """Adam with the L2 term in the gradient."""
    return optax.chain(_decay(weight_decay), optax.adam(rate, b1=momentum))


def amsgrad(rate: optax.Schedule, momentum: float, weight_decay: float):
    """AMSGrad (Reddi et al. 2018) as PyTorch has it, with the L2 term in the gradient."""
    return optax.chain(
        _decay(weight_decay), _scale_by_amsgrad(momentum), optax.scale_by_learning_rate(rate)
    )


def adamw(rate: optax.Schedule, momentum: float, weight_decay: float):
    """Adam with decoupled weight decay."""
    return optax.adamw(rate, b1=momentum, weight_decay=weight_decay)


def rmsprop(rate: optax.Schedule, momentum: float, weight_decay: float):
    """RMSProp with the L2 term in the gradient."""
    return optax.chain(_decay(weight_decay), optax.rmsprop(rate, momentum=momentum or None))


def _scale_by_amsgrad(b1: float, b2: float = 0.999, eps: float = 1e-8):
    """Divide by the root of the largest second moment so far, corrected for its start afterwards.

    `optax.scale_by_amsgrad` takes the largest of the corrected moments. The first of these is the
    first gradient squared, undamped, so that one steep start holds the steps small for good.
    """

    def init(params: PyTree) -> optax.ScaleByAmsgradState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAmsgradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None):
        del params
        count = state.count + 1
        mu = trees.tree_update_moment(updates, state.mu, b1, 1)
        nu = trees.tree_update_moment(updates, state.nu, b2, 2)
        largest = jax.tree.map(jnp.maximum, state.nu_max, nu)
        updates = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + eps),
            trees.tree_bias_correction(mu, b1, count),
            trees.tree_bias_correction(largest, b2, count),
        )
        return updates, optax.ScaleByAmsgradState(count, mu, nu, largest)

    return optax.GradientTransformation(init, update)


def _decay(weight_decay: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()


OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "amsgrad": amsgrad,
    "adamw": adamw,
    "rmsprop": rmsprop,
}


def make_optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """Return the gradient transformation of `[optimizer]` for a run of `steps`."""
    if config.given is not None:
        return config.given
    factor = make_schedule(config.schedule, steps)
    transformation = OPTIMIZERS[config.name](
        lambda count: config.learning_rate * factor(count), config.momentum, config.weight_decay
    )
    if config.clip_norm is None:
        return transformation
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), transformation)


def first_steps(optimizer: optax.GradientTransformation, params: PyTree) -> dict[str, Any]:
    """Return the norms of an optimiser's first updates for gradients that are always the same.

    They tell one that Python gave from another, its rate and kind, where no config does.
    """
    gradients = jax.tree.map(
        lambda leaf: jnp.sin(1.0 + jnp.arange(leaf.size)).reshape(leaf.shape).astype(leaf.dtype),
        params,
    )
    state, norms = optimizer.init(params), []
    for _ in range(3):
        updates, state = optimizer.update(gradients, state, params)
        norms.append(float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(updates)))))
    return {"first_steps": norms}
