"""A step in less memory: the batch in parts, and the forward pass computed twice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jacreg._convolution import as_products
from train.parallel import split_rows
from train.problem import Outcome

if TYPE_CHECKING:
    from jaxtyping import PyTree

# What is worth keeping: products are dear to compute again, all else is cheap.
_KEPT = ("dot_general", "conv_general_dilated", "jacreg_convolution")


def rematerialised(objective: Callable[..., Any]) -> Callable[..., Any]:
    """Return the objective with the outputs of its products kept alone for the backward pass.

    Activations, normalisation, dropout masks and what they save are computed again.
    """
    return jax.checkpoint(objective, policy=_is_product)


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    return str(primitive) in _KEPT


def in_parts(
    gradient: Callable[..., Any], parts: int, mesh: jax.sharding.Mesh | None = None
) -> Callable[..., Any]:
    """Return the same gradient of a batch taken in parts of equal size, one after the other.

    The loss is a mean over the rows, so the mean over the parts is that of the batch, up to
    rounding. What a term draws at random is drawn anew for each part: the same law, other numbers.

    Args:
        gradient: `(params, state, xs, targets, keys, step) -> ((loss, Outcome), grads)`.
        parts: how many; the batch is a multiple of it.
        mesh: the devices that share the rows of each part.
    """
    if parts == 1:
        return gradient

    def accumulated(
        params: PyTree, state: PyTree, xs: Any, targets: Any, keys: Any, step: Any
    ) -> Any:
        # Part p takes the rows p, p + parts, ...: each device keeps the rows that it has.
        cut = split_rows(jax.tree.map(partial(_cut, parts), (xs, targets)), mesh, leading=1)

        def take(part: Any, number: Any, state: PyTree) -> Any:
            own = jax.tree.map(lambda key: jax.random.fold_in(key, number), keys)
            (loss, (state, metrics, usable)), grads = gradient(params, state, *part, own, step)
            return state, usable, (loss, metrics, grads)

        def add(carry: Any, now: Any) -> Any:
            state, usable, sums = carry
            part, number = now
            state, this, found = take(part, number, state)
            # The batch is usable where each of its parts is.
            usable = jax.tree.map(jnp.logical_and, usable, this)
            return (state, usable, jax.tree.map(jnp.add, sums, found)), None

        first = jax.tree.map(lambda array: array[0], cut)
        carry = take(first, 0, state)
        rest = jax.tree.map(lambda array: array[1:], cut)
        body = as_products(add) if mesh is None or mesh.size == 1 else add
        (state, usable, sums), _ = jax.lax.scan(body, carry, (rest, jnp.arange(1, parts)))
        loss, metrics, grads = jax.tree.map(lambda total: total / parts, sums)
        return (loss, Outcome(state, metrics, usable)), grads

    return accumulated


def _cut(parts: int, array: Any) -> Any:
    return jnp.moveaxis(array.reshape(-1, parts, *array.shape[1:]), 1, 0)
