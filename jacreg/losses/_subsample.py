"""A penalty on some rows of the batch."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._memory import is_symbolic
from .._sharding import explicit_sharding
from ._checks import check_key

if TYPE_CHECKING:
    from jaxtyping import Array

    from .._typing import PyTree


def subsample(xs: PyTree, fraction: float, *, key: Array | None) -> PyTree:
    """Pick m = round(fraction * N) rows at random, without repetition, at least one.

    Pick before linearising, then average the penalty over the picked rows:

        rows, conditions = subsample((xs, conditions), 0.25, key=key)
        lin = jacreg.linearize(fn, rows, conditions)
        term = jnp.mean(jacreg.losses.jacobian_penalty(lin, key=probe_key))

    Every row is as likely, so that the mean over m rows is unbiased for the mean
    over all N, in value and gradient: dividing by m rather than N is the reweighting. A
    sum over the picked rows must be multiplied by N / m.

    The picked rows need a forward pass of their own, so nothing is saved of the shared
    one: a penalty costs three passes over a fraction of the batch in place of
    two over all of it. Picking rows after linearising saves nothing at all. Where the
    batch is split over devices, the picked rows travel between them, and in an explicit
    mesh m must be a multiple of the devices along the batch.

    Args:
        xs: a batch, or a pytree of arrays that share the batch axis (inputs, labels,
            weights, per-example keys), of any dtype; the same rows are picked in all.
        fraction: in (0, 1], a Python number: shapes depend on it.
        key: a new one every step.

    Returns:
        The same tree with m rows.

    Raises:
        TypeError: the fraction is no Python number.
        ValueError: it is not in (0, 1], the key is missing, or the arrays do not share
            a batch axis.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> xs, labels = jnp.zeros((8, 3)), jnp.arange(8)
        >>> rows, picked = jacreg.losses.subsample((xs, labels), 0.25, key=jax.random.key(0))
        >>> rows.shape, picked.shape
        ((2, 3), (2,))
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise TypeError(f"subsample: fraction must be a Python number, got {fraction!r}.")
    if not (isfinite(fraction) and 0 < fraction <= 1):
        raise ValueError(f"subsample: fraction must be in (0, 1], got {fraction}.")
    key = check_key("subsample", key)
    xs = jax.tree.map(jnp.asarray, xs)
    num_examples = _count_rows(xs)
    if is_symbolic(num_examples):
        raise ValueError(
            "subsample: the batch's length is a symbol here (jax.export), and so would be the "
            "number of rows; pick rows before the exported function."
        )
    count = max(1, round(fraction * num_examples))
    picked = jax.random.choice(key, num_examples, (count,), replace=False)
    return jax.tree.map(lambda x: _take(x, picked), xs)


def _count_rows(xs: PyTree) -> int:
    shapes = [x.shape for x in jax.tree.leaves(xs)]
    if not shapes or any(len(shape) == 0 for shape in shapes):
        raise ValueError(
            f"subsample: every array must have the batch axis, got shapes {shapes}; leave out "
            "what all examples share."
        )
    sizes = {shape[0] for shape in shapes}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            f"subsample: the arrays must share a batch axis that is not empty, got shapes {shapes}."
        )
    return sizes.pop()


def _take(x: Array, picked: Array) -> Array:
    sharding = explicit_sharding(x)
    return x[picked] if sharding is None else x.at[picked].get(out_sharding=sharding)
