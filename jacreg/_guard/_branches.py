"""Masks through checkpoints, calls and branches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from .._interpret import HELD, JIT, bind
from .._sharding import match_sharding
from ._axes import joined
from ._body import BodyOf, Changed, Masks, Shared, clauses_given
from ._conditions import Conditions
from ._flat import Flat, Named, lifted, named
from ._masks import everywhere
from ._values import Mask, Values, names

# Programs that are called as a whole, and under which name they are held.
_CALLS = {name: held for name, held in HELD.items() if name not in JIT}
NAMES = frozenset({*_CALLS, "cond"})


class Branches:
    """One program, or several of which an index takes one.

    Args:
        equation: that runs them.
        linear: of each operand, whether it is linear.
        shared: of each operand, whether it is the same for all examples, if known.
        body_of: reads the equations in them that have programs inside.
    """

    def __init__(
        self, equation: Any, linear: Sequence[bool], shared: Shared, body_of: BodyOf
    ) -> None:
        self._equation = equation
        self._name = _CALLS.get(equation.primitive.name, "branches")
        self._first = int(self._name == "branches")
        inner = equation.params[self._name]
        self._programs = [Flat(each, body_of) for each in (inner if self._first else (inner,))]
        self._linear = linear[self._first :]
        self._shared = shared and shared[self._first :]
        self._count = len(equation.outvars)
        plain = self._conditions((), ())
        outs = zip(*(found.linear_out for found in plain), strict=True)
        self.linear_out: Sequence[bool] = [any(each) for each in outs]

    def through(self, masks: Masks) -> Masks:
        """Where its outputs may differ from zero, of its inputs' masks."""
        found, avals = self._conditions(masks, ()), [v.aval for v in self._equation.outvars]
        around = named("through", masks[self._first :])
        return self._lifted(found, [each.through_out for each in found], avals, around)

    def asked(self, masks: Masks) -> Masks:
        """Where its inputs have an effect, of its outputs' masks."""
        found, avals = self._conditions((), masks), [v.aval for v in self._equation.invars]
        wanted = [each.asked_in for each in found]
        inner = self._lifted(found, wanted, avals[self._first :], named("asked", masks))
        return [*([None] * self._first), *inner]

    def changed(self, through: Masks, asked: Masks) -> Changed | None:
        """The equation with factors replaced in its programs."""
        found = self._conditions(through, asked)
        needs = [each.needs for each in found]
        if all(each is None for each in needs):
            return None
        around = {**named("through", through[self._first :]), **named("asked", asked)}
        read = dict.fromkeys(name for each in needs for name in each or ())
        masks = [around[name] for name in read]
        return Changed(masks, partial(self._bind, found, list(read)))

    def _bind(
        self,
        found: list[Conditions],
        read: Sequence[Any],
        operands: Sequence[Any],
        masks: Sequence[Any],
    ) -> Sequence[Any]:
        """Evaluate it with factors replaced, the masks behind the operands."""
        count = len(operands) - self._first

        def changed(program: Flat, found: Conditions) -> Any:
            def body(*args: Any) -> list[Any]:
                given = dict(zip(read, args[count:], strict=True))
                return program.run(found, args[:count], given)

            return jax.make_jaxpr(body)(*operands[self._first :], *masks)

        programs = [changed(*each) for each in zip(self._programs, found, strict=True)]
        if any(each.consts for each in programs):
            return bind(self._equation, operands)
        params = dict(self._equation.params)
        if self._first:
            params["branches"] = tuple(programs)
        else:
            (program,) = programs
            closed = hasattr(params[self._name], "jaxpr")
            params[self._name] = program if closed else program.jaxpr
        if isinstance(params.get("prevent_cse"), tuple):
            params["prevent_cse"] += (False,) * len(masks)
        return bind(self._equation, [*operands, *masks], **params)

    def _conditions(self, through: Masks, asked: Masks) -> list[Conditions]:
        through, asked = through[self._first :], asked or [None] * self._count
        through = through or [None] * len(self._linear)
        return [
            each.conditions(
                self._linear, self._shared, clauses_given(through), clauses_given(asked)
            )
            for each in self._programs
        ]

    def _lifted(
        self,
        found: list[Conditions],
        wanted: list[list[Mask | None]],
        avals: Sequence[Any],
        around: Named,
    ) -> list[Mask | None]:
        """Masks of which some program has one, with every entry where another has none."""
        flags = [
            None not in each or any(mask and (mask.said or names([mask])) for mask in each)
            for each in zip(*wanted, strict=True)
        ]
        kept = [
            [
                mask or everywhere(aval)
                for mask, aval, flag in zip(row, avals, flags, strict=True)
                if flag
            ]
            for row in wanted
        ]
        read = {name: around[name] for name in names(m for row in kept for m in row)}
        places = [aval for aval, flag in zip(avals, flags, strict=True) if flag]
        atoms = self._equation.invars

        def evaluate(values: Values, masks: dict[Any, Any]) -> Sequence[Any]:
            operands = [
                None if each else values.read(atom)
                for atom, each in zip(atoms[self._first :], self._linear, strict=True)
            ]

            def run(program: Flat, conditions: Conditions, row: list[Mask]) -> Sequence[Any]:
                inner = program.values(conditions, operands, masks)
                return [
                    match_sharding(inner.of(mask), aval)
                    for mask, aval in zip(row, places, strict=True)
                ]

            each = zip(self._programs, found, kept, strict=True)
            if not self._first:
                return run(*next(each))
            runs = [lambda args=args: run(*args) for args in each]
            return jax.lax.switch(values.read(atoms[0]), runs)

        return lifted(
            [flag or None for flag in flags],
            read,
            evaluate,
            [joined(mask.clauses for mask in each) for each in zip(*kept, strict=True)],
            condition=any(mask.said for row in kept for mask in row),
        )
