"""How inputs would have to be written for a model to take them, tried on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, prod
from typing import Any

import jax


def rearranged(call: Callable[[Any], Any], xs: Any) -> str:
    """Return a sentence with the expression of `x`, the inputs, that a model takes; "" for none."""
    for said, shape in _candidates(tuple(xs.shape)):
        if takes(call, shape, xs.dtype):
            return f" It takes {said}, where x are the inputs."
    return ""


def takes(call: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any) -> bool:
    """Return whether a model takes a batch of a shape and gives a row of numbers an example."""
    try:
        ys = jax.eval_shape(call, jax.ShapeDtypeStruct(shape, dtype))
    except Exception:  # whatever the user's own code raises
        return False
    leaves = jax.tree.leaves(ys)
    return all(leaf.ndim == 2 and leaf.shape[:1] == shape[:1] for leaf in leaves)


def _candidates(shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    count, *rest = shape
    found: list[tuple[str, tuple[int, ...]]] = []
    if len(rest) == 3:
        found += [
            ("x.transpose(0, 2, 3, 1), channels last", (count, rest[1], rest[2], rest[0])),
            ("x.transpose(0, 3, 1, 2), channels first", (count, rest[2], rest[0], rest[1])),
        ]
    if len(rest) == 2:
        found += [
            ("x[..., None], with an axis of channels", (*shape, 1)),
            ("x[:, None], with an axis of channels", (count, 1, *rest)),
        ]
    if len(rest) == 1 and (side := isqrt(rest[0])) ** 2 == rest[0]:
        found += [
            (f"images, x.reshape(-1, {side}, {side}, 1)", (count, side, side, 1)),
            (f"images, x.reshape(-1, 1, {side}, {side})", (count, 1, side, side)),
        ]
    if len(rest) > 1:
        found.append(("x.reshape(len(x), -1), one axis an example", (count, prod(rest))))
    return found
