"""One number an example, as many examples at once as pay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from .._memory import is_symbolic, known_size
from ._chain import MOST_ENTRIES

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# 256 KiB in float32: a gradient has about four such arrays at hand, and they are read again from a
# core's cache of 1 MiB. With twice as much, gradients took almost twice as long on two cores.
_CACHE_ENTRIES = 1 << 16


def map_examples(
    fn: Callable[..., Float[Array, " *out"]], arrays: Any, num_examples: int, entries: int
) -> Float[Array, " B *out"]:
    """`fn` of the rows of every array `[N or 1, ...]`, as `[N or 1, *out]`.

    Rows of arrays that all examples share are not repeated. What would not fit into memory at
    once is computed again in reverse-mode differentiation.

    Args:
        fn: of one row of each of `arrays`, a pytree unpacked into its arguments.
        arrays: a tuple of pytrees of arrays.
        num_examples: N.
        entries: the largest array that `fn` holds.
    """
    leaves, treedef = jax.tree.flatten(arrays)
    varying = [leaf.shape[0] == num_examples for leaf in leaves]
    if not any(varying):
        return fn(*jax.tree.unflatten(treedef, [leaf[0] for leaf in leaves]))[None]

    def one(rows: list[Any]) -> Float[Array, " *out"]:
        parts = iter(rows)
        own = [
            next(parts) if varies else leaf[0] for leaf, varies in zip(leaves, varying, strict=True)
        ]
        return fn(*jax.tree.unflatten(treedef, own))

    count = known_size(num_examples)

    def run(at_once: int, rows: list[Any]) -> Float[Array, " B *out"]:
        if at_once >= count:
            return jax.vmap(one)(rows)
        each = jax.checkpoint(one) if count * entries > MOST_ENTRIES else one
        # A symbol cannot be divided into groups.
        grouped = at_once > 1 and not is_symbolic(num_examples)
        return jax.lax.map(each, rows, batch_size=at_once if grouped else None)

    rows = [leaf for leaf, varies in zip(leaves, varying, strict=True) if varies]
    most = max(1, MOST_ENTRIES // max(entries, 1))
    # Few large examples still make a product worth a call, if they all but fit.
    fitting = _CACHE_ENTRIES // max(entries, 1)
    cached = max(1, fitting, min(16, 4 * fitting))
    if cached >= min(most, count):
        return run(most, rows)
    return jax.lax.platform_dependent(rows, cpu=partial(run, cached), default=partial(run, most))
