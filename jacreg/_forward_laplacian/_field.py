"""Laplacian and diagonal of the Hessian of a scalar field, carried forward."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._carried import Carried, Order, value_of
from ._colors import Seen
from ._directions import Directions, dense, seed, with_slots
from ._run import carry

if TYPE_CHECKING:
    from jaxtyping import Array


def second_order(program: Any, inputs: Sequence[Any], which: int, order: Order) -> Array:
    """Second derivatives of a scalar field by one of its inputs.

    Args:
        program: a closed jaxpr with one output, `[N]`, row n of which depends on row n of the
            inputs alone.
        inputs: of the program.
        which: the one to differentiate by, `[N, *in]`.
        order: what is carried of them.

    Returns:
        The Laplacian, `[N]`; each of them, `[N, *in]`, where `order` keeps them.

    Raises:
        Refusal: an operation that forward mode does not go through.

    Source: Li et al. 2024, "A computational framework for neural network-based variational
        Monte Carlo with forward Laplacian"; the directions, dense there, are shared by colours
        here (Curtis, Powell and Reid 1974).
    """
    xs = inputs[which]
    found = _along(program, inputs, which, seed(xs.shape, xs.dtype), order)
    return found.reshape(xs.shape) if order.keep else found


def by_parts(program: Any, inputs: Sequence[Any], which: int, order: Order, count: int) -> Array:
    """The same by `count` entries of x at a time."""
    xs = inputs[which]
    size = prod(xs.shape[1:])

    def part(start: Array) -> Array:
        entries = start + jnp.arange(count)
        onehot = (entries[:, None] == jnp.arange(size)).astype(xs.dtype)
        onehot = onehot.reshape((1, count, *xs.shape[1:]))
        seen: Seen = np.ones((1,) * xs.ndim + (count,), bool)
        directions = Directions(onehot, (np.arange(count),), (seen,))
        return _along(program, inputs, which, directions, order)

    # Differentiated in reverse, all parts together would need what one at a time saves.
    parts = jax.lax.map(jax.checkpoint(part), jnp.arange(0, size, count))
    if not order.keep:
        return parts.sum(axis=0)
    flat = jnp.moveaxis(parts, 0, 1).reshape((xs.shape[0], -1))
    return flat[:, :size].reshape(xs.shape)


def _along(
    program: Any, inputs: Sequence[Any], which: int, directions: Directions, order: Order
) -> Array:
    """By some directions: their sum, or each of them, `[N, *directions]`."""
    out = carry(program, inputs, which, directions, order)
    value = value_of(out)
    term = out.second() if isinstance(out, Carried) else None
    if order.keep:
        if term is not None:
            return dense(term, value.shape)
        return jnp.zeros(with_slots(value.shape, [len(c) for c in directions.colors]), value.dtype)
    if term is None:
        return jnp.zeros_like(value)
    return jnp.broadcast_to(term, value.shape).astype(value.dtype)
