"""A loop whose body reads masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from .._interpret import scan_counts
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
        params, (consts, carries) = self._equation.params, scan_counts(self._equation)
        shared, stepwise = list(masks[: self._first]), list(masks[self._first :])
        rest = consts + carries

        def step(carry: Sequence[Any], rows: Any) -> tuple[Sequence[Any], Sequence[Any]]:
            scanned, of_step = rows
            read = dict(zip(self._names, [*shared, *of_step], strict=True))
            own = [*operands[:consts], *carry, *scanned]
            outs = self._program.run(self._found, own, read)
            return list(outs[:carries]), list(outs[carries:])

        rows = (list(operands[rest:]), stepwise)
        # Of a loop over what it takes apart JAX finds the length, and may not be told a symbol.
        length = None if jax.tree.leaves(rows) else params["length"]
        last, stacked = jax.lax.scan(
            step, list(operands[consts:rest]), rows, length=length, reverse=params["reverse"],
            unroll=params["unroll"],
        )  # fmt: skip
        return [*last, *stacked]
