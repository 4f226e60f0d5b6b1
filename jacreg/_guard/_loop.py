"""Masks through the steps of a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from .._interpret import scan_counts, scan_like
from .._sharding import match_sharding
from ._axes import joined, stacked, stepped
from ._body import BodyOf, Changed, Masks, Shared, clauses_given
from ._changed_loop import changed_loop
from ._conditions import Conditions
from ._flat import Flat, Named, lifted, named
from ._masks import everywhere, widened
from ._values import Mask, Values, names

NAMES = frozenset({"scan"})
_STATES = "states"


class Loop:
    """A `scan`: a mask of what one step leaves is one of what the next step takes.

    Args:
        equation: of the loop.
        linear: of each operand, whether it is linear.
        shared: of each operand, whether it is the same for all examples, if known.
        body_of: reads the equations in its body that have programs inside.
    """

    def __init__(
        self, equation: Any, linear: Sequence[bool], shared: Shared, body_of: BodyOf
    ) -> None:
        self._equation = equation
        self._consts, self._carries = scan_counts(equation)
        self._rest = self._consts + self._carries
        self._program = Flat(equation.params["jaxpr"], body_of)
        self._linear = list(linear)
        # The steps may be the examples.
        shared = [i < self._consts for i in range(len(linear))] if shared is None else shared
        carries = range(self._consts, self._rest)
        self._shared = [each and i not in carries for i, each in enumerate(shared)]
        self._known: dict[Any, Any] = {}
        self._states = Mask((), lambda values, _: self._inputs(values))
        while True:
            outs = self._conditions((), ()).linear_out
            carried = self._linear[self._consts : self._rest]
            grown = [a or b for a, b in zip(carried, outs[: self._carries], strict=True)]
            if grown == carried:
                break
            self._linear[self._consts : self._rest] = grown
        self.linear_out: Sequence[bool] = [*carried, *outs[self._carries :]]

    def through(self, masks: Masks) -> Masks:
        """Where its outputs may differ from zero, of its inputs' masks."""
        return self._along(masks)[0]

    def asked(self, masks: Masks) -> Masks:
        """Where its inputs have an effect, of its outputs' masks."""
        return self._back(masks)[0]

    def changed(self, through: Masks, asked: Masks) -> Changed | None:
        """The equation with factors replaced in its body."""
        entering, leaving = self._along(through)[1], self._back(asked)[1]
        found = self._conditions(entering, leaving, at_steps=True)
        needs = found.needs
        if needs is None:
            return None
        around = {**named("through", entering), **named("asked", leaving)}
        read = {name: around[name] for name in needs}
        return changed_loop(self._equation, self._program, found, *self._by_step(read))

    def _along(self, masks: Masks) -> tuple[Masks, Masks]:
        """Of its outputs, and of what enters its body: of carries at every step."""
        if ("along", *map(id, masks)) in self._known:
            return self._known["along", *map(id, masks)][:2]
        given = [mask if each else None for mask, each in zip(masks, self._linear, strict=True)]

        def read(known: Masks) -> tuple[Conditions, Masks]:
            found = self._conditions(known, ())
            return found, found.through_out[: self._carries]

        carries = range(self._consts, self._rest)
        known, found = self._settled(given, carries, read, self._equation.invars)
        outs = found.through_out
        ends = [known[i] and outs[i - self._consts] for i in carries]
        found = self._over_steps(
            found, named("through", known),
            {("through", self._consts + i): mask for i, mask in enumerate(ends) if mask},
            outs[self._carries :], self._equation.params["reverse"],
        )  # fmt: skip
        after, at_steps, ys = found(
            [end and known[i] for i, end in zip(carries, ends, strict=True)]
        )
        entering = [*known[: self._consts], *at_steps, *known[self._rest :]]
        self._known["along", *map(id, masks)] = [*after, *ys], entering, masks
        return [*after, *ys], entering

    def _back(self, masks: Masks) -> tuple[Masks, Masks]:
        """Of its inputs, and of what leaves its body: of carries at every step."""
        if ("back", *map(id, masks)) in self._known:
            return self._known["back", *map(id, masks)][:2]
        given = [mask if each else None for mask, each in zip(masks, self.linear_out, strict=True)]

        def read(known: Masks) -> tuple[Conditions, Masks]:
            found = self._conditions((), known)
            return found, found.asked_in[self._consts : self._rest]

        known, found = self._settled(given, range(self._carries), read, self._equation.outvars)
        ins = found.asked_in
        ends = [known[i] and ins[self._consts + i] for i in range(self._carries)]
        found = self._over_steps(
            found, named("asked", known),
            {("asked", i): mask for i, mask in enumerate(ends) if mask},
            [*ins[: self._consts], *ins[self._rest :]], not self._equation.params["reverse"],
        )  # fmt: skip
        after, at_steps, each = found(
            [end and mask for mask, end in zip(known, ends, strict=False)]
        )
        consts = [mask and _at_any_step(mask) for mask in each[: self._consts]]
        leaving = [*at_steps, *known[self._carries :]]
        inner = [*consts, *after, *each[self._consts :]]
        self._known["back", *map(id, masks)] = inner, leaving, masks
        return inner, leaving

    def _settled(
        self,
        masks: Masks,
        carries: range,
        read: Callable[[Masks], tuple[Conditions, Masks]],
        atoms: Sequence[Any],
    ) -> tuple[list[Mask | None], Conditions]:
        """Masks of carries at the start, where every step makes one from that before.

        Args:
            masks: at the start, of carries and the rest.
            carries: which are carries.
            read: from them to the conditions of a step, and the carries' masks after it.
            atoms: what they are masks of.
        """
        known = [
            mask or everywhere(atom.aval) if self._carried(i, carries) else mask
            for i, (mask, atom) in enumerate(zip(masks, atoms, strict=True))
        ]
        known, found, after = _kept(known, carries, read)
        # Without a condition at the start or in a step such a mask says nothing.
        inputs = [i for i in range(len(known)) if i not in carries and known[i]]
        said = {*inputs, *(i for i in carries if known[i] and masks[i])}
        while True:
            more = {
                i
                for i, mask in zip(carries, after, strict=True)
                if mask and (mask.said or any(name[1] in said for name in names([mask])))
            }
            if more <= said:
                break
            said |= more
        known = [mask if i in said else None for i, mask in enumerate(known)]
        known, found, _ = _kept(known, carries, read)
        return known, found

    def _carried(self, i: int, carries: range) -> bool:
        return i in carries and self.linear_out[i - carries.start]

    def _over_steps(
        self, found: Conditions, around: Named, carried: Named, each: Masks, reverse: bool
    ) -> Any:
        """Masks that a loop over the steps makes.

        Args:
            found: the conditions of the body.
            around: masks from the program around; of those that are carried, at the start.
            carried: those that go from step to step, as a step makes them.
            each: those that are wanted of every step.
            reverse: whether the last step comes first.

        Returns:
            A function from masks of carries at the start, None where they are not carried, to masks
            of these after the loop, masks of them as they enter each step, and masks of `each`.
        """
        wanted = [mask for mask in each if mask is not None]

        def evaluate(values: Values, masks: dict[Any, Any]) -> Sequence[Any]:
            inputs = masks.pop(_STATES)
            start = {name: masks.pop(name) for name in carried}
            shared, stepwise = self._by_step(masks)

            def step(carry: Any, entering: Any) -> Any:
                rows, given = entering
                operands = [*inputs[: self._consts], *rows]
                inner = self._program.values(found, operands, {**shared, **given, **carry})
                after = {name: inner.of(mask) for name, mask in carried.items()}
                return self._typed(after), (carry, [inner.of(mask) for mask in wanted])

            start = self._typed(start)
            entering = (inputs[self._consts :], stepwise)
            end, (at_steps, made) = scan_like(
                self._equation, step, start, entering, reverse=reverse
            )
            return [*end.values(), *(at_steps[name] for name in end), *made]

        def masks_of(starts: Masks) -> tuple[Masks, Masks, Masks]:
            starts = [mask or None for mask in starts]
            kept = [mask.clauses for mask in starts if mask]
            made = lifted(
                [*starts, *starts, *each],
                {_STATES: self._states, **around},
                evaluate,
                [*kept, *map(stacked, [*kept, *(mask.clauses for mask in wanted)])],
                condition=any(mask.said for mask in (*carried.values(), *wanted)),
            )
            count = len(starts)
            return made[:count], made[count : 2 * count], made[2 * count :]

        return masks_of

    def _inputs(self, values: Values) -> list[Any]:
        """Of the body: None where they are linear, with a row a step unless they are shared."""
        given = [
            None if each else values.read(atom)
            for atom, each in zip(self._equation.invars, self._linear, strict=True)
        ]
        carries = [i for i in range(self._consts, self._rest) if not self._linear[i]]
        if not carries:
            return given
        plain, body = self._conditions((), ()), self._program.jaxpr

        def at(i: int, value: Any) -> Any:
            aval = body.invars[i].aval
            return match_sharding(jnp.asarray(value, aval.dtype), aval)

        def step(state: Any, rows: Any) -> Any:
            operands = [*given[: self._consts], *([None] * self._carries), *rows]
            operands = [state.get(i, each) for i, each in enumerate(operands)]
            inner = self._program.values(plain, operands, {})
            after = {i: at(i, inner.read(body.outvars[i - self._consts])) for i in carries}
            return after, state

        start = {i: at(i, given[i]) for i in carries}
        reverse = self._equation.params["reverse"]
        _, states = scan_like(self._equation, step, start, given[self._rest :], reverse=reverse)
        return [states.get(i, each) for i, each in enumerate(given)]

    def _typed(self, masks: dict[Any, Any]) -> dict[Any, Any]:
        """As they are carried: where the carry is."""
        atoms = {"through": self._program.jaxpr.invars, "asked": self._program.jaxpr.outvars}
        return {n: match_sharding(mask, atoms[n[0]][n[1]].aval) for n, mask in masks.items()}

    def _by_step(self, masks: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Those that all steps share, those that have a row a step."""
        shared = {n for n in masks if n[0] == "through" and n[1] < self._consts}
        return (
            {n: m for n, m in masks.items() if n in shared},
            {n: m for n, m in masks.items() if n not in shared},
        )

    def _conditions(self, through: Masks, asked: Masks, *, at_steps: bool = False) -> Conditions:
        """Those of the body; `at_steps`: of carries, too, the masks have a row a step."""
        body = self._program.jaxpr
        known = [
            [
                each if each is None or i < whole else stepped(each)
                for i, each in enumerate(clauses_given(masks or [None] * len(atoms)))
            ]
            for masks, atoms, whole in (
                (through, body.invars, self._consts if at_steps else self._rest),
                (asked, body.outvars, 0 if at_steps else self._carries),
            )
        ]
        return self._program.conditions(self._linear, self._shared, *known)


def _at_any_step(mask: Mask) -> Mask:
    return Mask(
        (mask,),
        lambda _, parts: jnp.any(parts[0], axis=0),
        along=lambda: stepped(mask.clauses),
    )


def _kept(
    known: list[Mask | None], carries: range, read: Callable[[Masks], tuple[Conditions, Masks]]
) -> tuple[list[Mask | None], Conditions, Masks]:
    """Those of which there are some after each step, too, with clauses that hold there."""
    while True:
        found, after = read(known)
        kept = list(known)
        for i, mask in zip(carries, after, strict=True):
            start = known[i]
            if start and mask:
                kept[i] = widened(start, joined([start.clauses, mask.clauses]))
            else:
                kept[i] = None
        if kept == known:
            return known, found, after
        known = kept
