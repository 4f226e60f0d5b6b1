"""Which entries of a masked parameter may differ from zero.

A mask is an array of integers or booleans that the program holds; what it lets through of a
parameter is not known, but what it does not is zero whatever the parameter is.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ._on_numpy import ON_NUMPY
from ._operand import Operand

# Each entry of the output is one of an operand's, or its negative.
_SAME = frozenset({"convert_element_type", "neg"})
_MOVED = _SAME | {
    "broadcast_in_dim", "concatenate", "copy", "reshape", "rev", "slice", "squeeze", "transpose",
}  # fmt: skip


def support_of(equation: Any, operands: list[Operand], most: int) -> np.ndarray | None:
    """Which entries of its one output may differ from zero, None where all may.

    Args:
        equation: of the program.
        operands: which do not depend on the input.
        most: entries of an array that is looked at.
    """
    name = equation.primitive.name
    if name not in _ROWS and name not in _MOVED:
        return None
    shapes = [each.shape for each in operands] + [v.aval.shape for v in equation.outvars]
    if all(each.support is None for each in operands) or max(map(prod, shapes)) > most:
        return None
    if name in _ROWS:
        found = _ROWS[name](equation.params, operands)
    else:
        move = ON_NUMPY["copy" if name in _SAME else name]
        found = move(equation.params, *map(_written_out, operands))
    return None if found is None or found.all() else np.broadcast_to(found, shapes[-1])


def _written_out(operand: Operand) -> np.ndarray:
    support = operand.support
    return np.ones(operand.shape, bool) if support is None else support


def _product(params: Any, operands: list[Operand]) -> np.ndarray | None:
    left, right = map(_written_out, operands)
    return left & right


def _sum(params: Any, operands: list[Operand]) -> np.ndarray | None:
    if any(each.support is None for each in operands):
        return None
    left, right = map(_written_out, operands)
    return left | right


def _select(params: Any, operands: list[Operand]) -> np.ndarray | None:
    which, *cases = operands
    if which.value is not None:
        return ON_NUMPY["select_n"](params, which.value, *map(_written_out, cases))
    if any(each.support is None for each in cases):
        return None
    return np.any(np.stack(list(map(_written_out, cases))), axis=0)


def _pad(params: Any, operands: list[Operand]) -> np.ndarray | None:
    array, filler = map(_written_out, operands)
    for axis, (low, high, interior) in enumerate(params["padding_config"]):
        length = array.shape[axis]
        place = low + np.arange(length) * (interior + 1)
        total = low + high + length + max(length - 1, 0) * interior
        kept = (place >= 0) & (place < total)
        wide = np.full((*array.shape[:axis], total, *array.shape[axis + 1 :]), bool(filler))
        ahead = (slice(None),) * axis
        wide[(*ahead, place[kept])] = array[(*ahead, kept)]
        array = wide
    return array


_ROWS = {"mul": _product, "add": _sum, "sub": _sum, "select_n": _select, "pad": _pad}
