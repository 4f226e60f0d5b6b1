"""x times one number where it is positive and another where it is not: leaky relus of any slope."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._traced import is_traced
from ._program import Activation, Known, Program, Tracked

_COMPARISONS = frozenset({"gt", "ge", "lt", "le"})


def two_slopes(program: Program, start: int) -> Activation | None:
    """The activation that begins with a comparison of x with 0 and chooses multiples of x by it.

    Every multiple of x is 0 where x is, so nothing jumps, and the larger slope is the constant;
    the slopes may be learned, and one for each channel.
    """
    comparison = program.steps[start]
    if comparison.name not in _COMPARISONS:
        return None
    tracked = [each for each in comparison.operands if isinstance(each, Tracked)]
    known = [each for each in comparison.operands if isinstance(each, Known)]
    if len(tracked) != 1 or comparison.outs[0].shape != tracked[0].shape:
        return None
    (x,), (threshold,) = tracked, known
    if not _is_zero(program.knowns[threshold.index]):
        return None
    multiples: dict[int, tuple[Known, ...]] = {x.index: ()}
    for count, step in enumerate(program.steps[start + 1 :], 2):
        (out, *_), operands = step.outs, step.operands
        if step.name == "select_n" and operands[0] == comparison.outs[0]:
            chosen = [_factors(each, multiples, program) for each in operands[1:]]
            if any(each is None for each in chosen):
                return None
            slopes = [each for each in chosen if each is not None and each is not _NOTHING]
            return Activation(count, x, out, partial(_steepest, slopes))
        moved = [each for each in operands if isinstance(each, Tracked)]
        if step.name not in ("mul", "neg") or len(moved) != 1 or out.shape != x.shape:
            return None
        if moved[0].index not in multiples:
            return None
        factors = tuple(each for each in operands if isinstance(each, Known))
        multiples[out.index] = (*multiples[moved[0].index], *factors)
    return None


_NOTHING: tuple[Known, ...] = (Known(-1),)  # x times 0


def _factors(
    operand: Tracked | Known, multiples: dict[int, tuple[Known, ...]], program: Program
) -> tuple[Known, ...] | None:
    """The numbers that x is multiplied by, None where it is no multiple of x."""
    if isinstance(operand, Tracked):
        return multiples.get(operand.index)
    return _NOTHING if _is_zero(program.knowns[operand.index]) else None


def _steepest(slopes: Sequence[tuple[Known, ...]], knowns: Sequence[Any]) -> Any:
    largest = jnp.zeros((), jnp.float64)
    for factors in slopes:
        slope = jnp.ones((), jnp.float64)
        for each in factors:
            slope = slope * jnp.max(jnp.abs(knowns[each.index].astype(jnp.float64)), initial=0)
        largest = jnp.maximum(largest, slope)
    return largest


def _is_zero(array: Any) -> bool:
    return not is_traced(array) and not np.any(np.asarray(array))
