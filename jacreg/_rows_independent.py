"""Whether the examples of a batch talk to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._errors import DirectionError
from ._linearize import Linearization, linearize
from ._probes import draw

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from ._typing import PyTree

# Differences of values below this many units in the last place are rounding.
_ROUNDING = 64.0


def rows_independent(fn: Callable[..., PyTree], xs: Float[Array, "N *in"], *args: PyTree) -> bool:
    """Whether row n of `fn(xs)` depends on row n of `xs` alone.

    False for train-mode BatchNorm and for anything else that mixes the batch; True
    for dropout whose mask is drawn for the batch and does not depend on it.

    The rows are split in two by each bit of their index, so that every ordered pair of
    rows is apart in some split: 2 ceil(log2 N) of them find a dependence of any row on
    any other. In each, random tangents in one half must give tangents that are exactly
    zero in the other, and changed values in one half unchanged values in the other: a
    derivative may vanish where a dependence does not (a threshold, a sort). Both are
    tried at this input only, so a dependence that shows elsewhere is not found.

    Args:
        fn: `[N, *in] -> [N, *out]`, pytrees too.
        xs: `[N, *in]`. With N < 2 there is no other row and the answer is True.
        *args: further inputs of `fn`, as for `linearize`.

    Raises:
        TypeError: called under jit, where there are no values to look at.
        ValueError: as `linearize` raises them.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> xs = jnp.ones((3, 2))
        >>> jacreg.rows_independent(jnp.tanh, xs)
        True
        >>> jacreg.rows_independent(lambda xs: xs - xs.mean(axis=0, keepdims=True), xs)
        False
    """
    lin = linearize(fn, xs, *args)
    # One program for all splits, and one for all values: another one would round in another way.
    probe, evaluate = jax.jit(_probe), jax.jit(lambda lin, xs: lin.evaluate(xs))
    if lin.num_examples < 2:
        return True
    try:
        before = jax.device_get(evaluate(lin, lin.xs))
        for changed, key in _splits(lin.num_examples):
            still, moved = probe(lin, changed, key)
            if not still:
                return False
            after = jax.device_get(evaluate(lin, moved))
            if not _others_are_unchanged(before, after, changed):
                return False
        return True
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            "rows_independent: the answer is a Python bool and needs concrete values; call it "
            "once outside jit, before training, not inside a jitted or mapped function."
        ) from error


def _splits(num_examples: int) -> Iterator[tuple[Bool[np.ndarray, " N"], Array]]:
    """Both halves of every bit of the index, with a key of their own."""
    rows = np.arange(num_examples)
    key = jax.random.key(num_examples)
    for bit in range(max(num_examples - 1, 0).bit_length()):
        in_half = (rows >> bit) & 1 == 1
        yield in_half, jax.random.fold_in(key, 2 * bit)
        yield ~in_half, jax.random.fold_in(key, 2 * bit + 1)


def _probe(
    lin: Linearization, changed: Bool[Array, " N"], key: Array
) -> tuple[Bool[Array, ""], PyTree]:
    """Whether tangents in one half leave the other's zero, and the inputs with that half moved."""
    tangent_key, value_key = jax.random.split(key)
    found = [
        jnp.all(~_nonzero(leaf) | _along(changed, leaf))
        for leaf in jax.tree.leaves(_derivative(lin, changed, tangent_key))
    ]
    still = jnp.all(jnp.stack(found)) if found else jnp.bool_(True)
    return still, _move(lin.xs, changed, value_key)


def _others_are_unchanged(before: PyTree, after: PyTree, changed: Bool[np.ndarray, " N"]) -> bool:
    return not any(
        np.any(_differs(old, new) & _along(~changed, old))
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


def _derivative(lin: Linearization, rows: Bool[Array, " N"], key: Array) -> PyTree:
    """J v or J^T u with v or u in `rows` alone; the Jacobian is block diagonal iff both are."""

    def masked(like: PyTree) -> PyTree:
        probe = draw(key, like, "gaussian")
        return jax.tree.map(lambda p: jnp.where(_along(rows, p), p, 0), probe)

    try:
        return lin.jvp(masked(lin.xs))
    except DirectionError:
        try:
            return lin.vjp(masked(lin.value))
        except DirectionError:
            return []


def _move(xs: PyTree, rows: Bool[Array, " N"], key: Array) -> PyTree:
    """Move `rows` by noise of the data's own size, so that they stay in its range."""

    def moved(x: Array, noise: Array) -> Array:
        spread = jnp.std(x.astype(jnp.float32))
        spread = jnp.where(jnp.isfinite(spread) & (spread > 0), spread, 1).astype(x.dtype)
        return jnp.where(_along(rows, x), x + spread * noise, x)

    return jax.tree.map(moved, xs, draw(key, xs, "gaussian"))


def _nonzero(leaf: Array) -> Any:
    # 0 * inf at a point without a derivative is no sign of a dependence.
    return (leaf != 0) & jnp.isfinite(leaf)


def _differs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    wide = np.float64 if before.dtype == np.float64 else np.float32
    unit = float(jnp.finfo(before.dtype).eps)
    before, after = before.astype(wide), after.astype(wide)
    largest = np.max(np.abs(before), initial=0, where=np.isfinite(before))
    with np.errstate(invalid="ignore"):  # infinity less infinity
        close = np.abs(after - before) <= _ROUNDING * unit * largest
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    return ~(same | close)


def _along(rows: Any, like: Any) -> Any:
    return rows.reshape((-1,) + (1,) * (like.ndim - 1))
