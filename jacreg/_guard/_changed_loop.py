"""A loop whose body reads masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from .._interpret import bind
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
        """Evaluate it: masks of all steps before the constants, the others behind the rest."""
        first, params = self._first, self._equation.params
        count = len(operands)

        def body(*args: Any) -> list[Any]:
            given = [*args[:first], *args[first + count :]]
            return self._program.run(
                self._found,
                args[first : first + count],
                dict(zip(self._names, given, strict=True)),
            )

        rows = [jax.make_jaxpr(lambda mask: mask[0])(mask).out_avals[0] for mask in masks[first:]]
        avals = [atom.aval for atom in self._program.jaxpr.invars]
        program = jax.make_jaxpr(body)(*map(jax.typeof, masks[:first]), *avals, *rows)
        if program.consts:
            return bind(self._equation, operands)
        changed = {"jaxpr": program, "num_consts": params["num_consts"] + first}
        if "linear" in params:
            extra = [False] * len(masks)
            changed["linear"] = (*extra[:first], *params["linear"], *extra[first:])
        return bind(self._equation, [*masks[:first], *operands, *masks[first:]], **changed)
