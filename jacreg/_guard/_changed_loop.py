"""A loop whose body reads masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._interpret import scan_counts, scan_like
from ._body import Changed
from ._conditions import Conditions
from ._flat import Flat, Named


def changed_loop(
    equation: Any, program: Flat, found: Conditions, shared: Named, stepwise: Named
) -> Changed:
    """A `scan` with factors replaced in its body, of masks for all steps and masks for each.

    Evaluated as a loop of its own: what a `scan` holds differs between releases of JAX.
    """
    consts, carries = scan_counts(equation)
    rest, read = consts + carries, [*shared, *stepwise]

    def bind(operands: Sequence[Any], masks: Sequence[Any]) -> Sequence[Any]:
        def step(carry: Sequence[Any], rows: Any) -> tuple[Sequence[Any], Sequence[Any]]:
            scanned, of_step = rows
            given = dict(zip(read, [*masks[: len(shared)], *of_step], strict=True))
            outs = program.run(found, [*operands[:consts], *carry, *scanned], given)
            return list(outs[:carries]), list(outs[carries:])

        rows = (list(operands[rest:]), list(masks[len(shared) :]))
        start, reverse = list(operands[consts:rest]), equation.params["reverse"]
        last, stacked = scan_like(equation, step, start, rows, reverse=reverse)
        return [*last, *stacked]

    return Changed([*shared.values(), *stepwise.values()], bind)
