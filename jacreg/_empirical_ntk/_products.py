"""The kernel a column at a time, where even one example's part of it is too much to hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ._blocks import length

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def by_products(
    rows: Callable[[list[Array], PyTree], Float[Array, "N M"]],
    floats: list[Array],
    xs: PyTree,
    others: PyTree,
    traced: bool,
    chunk: int,
) -> Float[Array, "N1 N2 ..."]:
    """Return the kernel by a vjp and the jvp after it for every output of every other example.

    Args:
        rows: the outputs of a batch, flat.
        floats: the parameters.
        xs, others: `[N1, ...]` and `[N2, ...]`.
        traced: sum over the outputs.
        chunk: examples of `others` at once.
    """
    _, push = jax.linearize(lambda v: rows(v, xs), floats)

    def columns(x: PyTree) -> Float[Array, "N1 ..."]:
        """The kernel between every row of `xs` and the example x."""
        value, pull = jax.vjp(lambda v: rows(v, jax.tree.map(lambda a: a[None], x))[0], floats)

        def column(index: Array) -> Float[Array, "N1 M"]:
            cotangent = (jnp.arange(value.size) == index).astype(value.dtype)
            image = push(pull(cotangent)[0])
            return jnp.take(image, index, axis=1) if traced else image

        if traced:
            total = jnp.zeros(length(xs), value.dtype)
            return jax.lax.fori_loop(0, value.size, lambda i, t: t + column(i), total)
        return jnp.moveaxis(jax.lax.map(column, jnp.arange(value.size)), 0, 2)

    return jnp.moveaxis(jax.lax.map(columns, others, batch_size=chunk), 0, 1)
