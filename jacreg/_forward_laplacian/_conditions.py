"""Where a condition lets an intermediate depend on x: elsewhere its derivatives are zero.

`sqrt(where(x > 0, x, 0))` has an infinite slope where the condition leaves x out, and infinity
times a derivative that is zero is no number. So derivatives are zero there without a product. Masks
are arrays of booleans, or None where no condition says anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from .._guard import any_along, links, pairs


def both(first: Any, second: Any) -> Any:
    """Where both are true that are masks."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def either(masks: Sequence[Any]) -> Any:
    """Where any is true."""
    if any(mask is None for mask in masks):
        return None
    found = masks[0]
    for mask in masks[1:]:
        found = found | mask
    return found


def behind(equation: Any, which: int, mask: Any) -> Any:
    """Of a mask of an operand that of the output, where an operation mixes entries."""
    if mask is None or (known := links(equation, which)) is None:
        return None
    (out,) = equation.outvars
    mask = jnp.broadcast_to(mask, equation.invars[which].aval.shape)
    return any_along(mask, pairs(known[0]), len(out.aval.shape))
