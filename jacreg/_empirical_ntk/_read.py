"""Read a program for the parameters whose derivative has structure, and run it with taps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax

from .._convolution import convolve
from .._interpret import CALLS, bind, interpret, interpret_inner
from ._use import Use, use_of
from ._weight import Weight, follow, overlap


class Seen(NamedTuple):
    """What a run found at one use: the activation, and what the weight was scaled by."""

    activation: Any
    scale: Any


class Reading(NamedTuple):
    """A program of `(leaves, x)` and what its leaves are to it.

    Attributes:
        closed: the program, the leaves its first inputs.
        leaves: how many.
        uses: the products of the leaves with structure, in the order of the program.
        general: the leaves that have none.
    """

    closed: Any
    leaves: int
    uses: tuple[Use, ...]
    general: tuple[int, ...]

    def run(
        self, values: Sequence[Any], inputs: Sequence[Any], taps: Sequence[Any]
    ) -> tuple[list[Any], list[Seen]]:
        """Return the outputs, a tap added to the result of each use, and what each use saw."""
        structured = {use.leaf for use in self.uses}
        run = _Run(list(taps))
        found = run.program(
            self.closed.jaxpr,
            self.closed.consts,
            [Weight(v, i) if i in structured else v for i, v in enumerate(values)] + list(inputs),
        )
        return [run.plain(value) for value in found], run.seen


def read_uses(closed: Any, leaves: int) -> Reading:
    """Read which of the first `leaves` inputs of a closed jaxpr enter products alone.

    A leaf whose uses do not see the same entries in the same places, or that enters anything
    else, is general; one that enters nothing is neither.
    """
    if closed.effects:
        return unread(closed, leaves)
    run = _Run(None)

    def all_weights(inputs: list[Any]) -> None:
        values = [Weight(x, i) if i < leaves else x for i, x in enumerate(inputs)]
        for value in run.program(closed.jaxpr, closed.consts, values):
            run.plain(value)

    jax.eval_shape(all_weights, [v.aval for v in closed.jaxpr.invars])
    general = set(run.general)
    for one, other in combinations(run.uses, 2):
        if one.leaf == other.leaf and one.key != other.key and overlap(one.box, other.box):
            general.add(one.leaf)
    uses = tuple(use for use in run.uses if use.leaf not in general)
    # Where none has any effect, the zeros still have a shape.
    return Reading(closed, leaves, uses, tuple(sorted(general)) if uses or general else (0,))


def unread(closed: Any, leaves: int) -> Reading:
    """Take all leaves to be general."""
    return Reading(closed, leaves, (), tuple(range(leaves)))


class _Run:
    """One pass over a program: of every leaf without taps, of those with structure with them."""

    def __init__(self, taps: list[Any] | None) -> None:
        self.taps = taps
        self.uses: list[Use] = []
        self.seen: list[Seen] = []
        self.general: set[int] = set()

    def program(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        return interpret(jaxpr, consts, args, self.equation)

    def plain(self, value: Any) -> Any:
        """The array of a weight that goes where nothing is known of its derivative."""
        if not isinstance(value, Weight):
            return value
        self.general.add(value.leaf)
        return value.array

    def equation(self, equation: Any, operands: list[Any]) -> list[Any]:
        if not any(isinstance(operand, Weight) for operand in operands):
            return bind(equation, operands)
        if equation.primitive.name in CALLS:
            return interpret_inner(equation, operands, self.equation)
        weight = follow(equation, operands)
        if weight is not None:
            return [weight]
        use = use_of(equation, operands)
        if use is None:
            return bind(equation, [self.plain(operand) for operand in operands])
        weight, activation = operands[use.side], operands[1 - use.side]
        if use.roles[0] == "conv":
            result = convolve(equation, activation, weight.array)
        else:
            arrays = [weight.array, activation] if use.side == 0 else [activation, weight.array]
            (result,) = bind(equation, arrays)
        if self.taps is not None:
            result = result + self.taps[len(self.uses)]
            # Not while reading, whose trace ends before this would be looked at.
            self.seen.append(Seen(activation, weight.scale))
        self.uses.append(use)
        return [result]
