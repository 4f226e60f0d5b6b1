"""Whether the rows of a batch stay apart along layers, read from their program, not from values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ._interpret import CALLS, JIT, interpret, interpret_inner
from ._rows_seen import as_operand, one_row_each, own_rows, rows_seen


def rows_apart(layers: Sequence[Callable[[Any], Any]], xs: Any) -> bool:
    """Whether every value on the way is a function of one row each: False where in doubt.

    Args:
        layers: functions of a batch, one after the other.
        xs: `[N, *in]`, a batch or its `jax.ShapeDtypeStruct`; two of its rows tell all.
    """

    def chain(xs: Any) -> Any:
        for layer in layers:
            xs = layer(xs)
        return xs

    struct = jax.ShapeDtypeStruct((2, *xs.shape[1:]), xs.dtype)
    closed = jax.make_jaxpr(chain)(struct)
    apart = True

    def apply(equation: Any, operands: list[Any]) -> list[Any]:
        nonlocal apart
        name = equation.primitive.name
        rows = list(map(as_operand, operands))
        seen = () if name in JIT else rows_seen(equation, rows)
        each = all(map(one_row_each, seen))
        if name in JIT or (name in CALLS and not each):
            return interpret_inner(equation, operands, apply)
        apart = apart and each
        return list(seen)

    interpret(closed.jaxpr, closed.consts, [own_rows(struct.shape, struct.shape[0])], apply)
    return apart
