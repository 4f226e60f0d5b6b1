"""One number an example, as many examples at once as pay."""

from __future__ import annotations

from collections.abc import Callable
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

    rows = [leaf for leaf, varies in zip(leaves, varying, strict=True) if varies]
    at_once = max(1, MOST_ENTRIES // max(entries, 1))
    if jax.default_backend() == "cpu":
        # Few large examples still make a product worth a call, if they all but fit.
        fitting = _CACHE_ENTRIES // max(entries, 1)
        at_once = max(1, fitting, min(16, 4 * fitting))
    count = known_size(num_examples)
    if at_once >= count:
        return jax.vmap(one)(rows)
    if count * entries > MOST_ENTRIES:
        one = jax.checkpoint(one)
    # A symbol cannot be divided into groups.
    grouped = at_once > 1 and not is_symbolic(num_examples)
    return jax.lax.map(one, rows, batch_size=at_once if grouped else None)
