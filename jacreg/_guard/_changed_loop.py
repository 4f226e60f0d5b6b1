"""A loop whose body reads masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._interpret import scan_counts, scan_like
from ._conditions import Conditions
from ._flat import Flat, Named
from ._values import Mask


class ChangedLoop:
    """A `scan` with factors replaced in its body, of masks for all steps and masks for each."""

    def __init__(
        self, equation: Any, program: Flat, found: Conditions, shared: Named, stepwise: Named
    ) -> None:
        self._equation, self._program, self._found = equation, program, found
        self._names, self._first = [*shared, *stepwise], len(shared)
        self.masks: Sequence[Mask] = [*shared.values(), *stepwise.values()]

    def bind(self, operands: Sequence[Any], masks: Sequence[Any]) -> Sequence[Any]:
        """Evaluate it as a loop of its own: what a `scan` holds differs between releases of JAX."""
        consts, carries = scan_counts(self._equation)
        shared, stepwise = list(masks[: self._first]), list(masks[self._first :])
        rest = consts + carries

        def step(carry: Sequence[Any], rows: Any) -> tuple[Sequence[Any], Sequence[Any]]:
            scanned, of_step = rows
            read = dict(zip(self._names, [*shared, *of_step], strict=True))
            own = [*operands[:consts], *carry, *scanned]
            outs = self._program.run(self._found, own, read)
            return list(outs[:carries]), list(outs[carries:])

        rows = (list(operands[rest:]), stepwise)
        start, reverse = list(operands[consts:rest]), self._equation.params["reverse"]
        last, stacked = scan_like(self._equation, step, start, rows, reverse=reverse)
        return [*last, *stacked]
