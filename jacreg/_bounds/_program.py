"""What a function does to its argument: its operations on tracked values, everything else known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._convolution import as_written
from .._interpret import CALLS, bind, interpret, interpret_inner
from .._source import place
from .._traced import is_traced
from ._control import written_out

_CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})


@dataclass(frozen=True)
class Tracked:
    """A value that depends on the argument; `index` counts them, the argument is 0."""

    index: int
    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class Known:
    """A value that does not: a place among the program's known arrays."""

    index: int


@dataclass(frozen=True)
class Step:
    """One operation with at least one tracked operand."""

    equation: Any
    operands: tuple[Tracked | Known, ...]
    outs: tuple[Tracked, ...]

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """The primitive's parameters."""
        return self.equation.params

    def where(self) -> str:
        """Return ` (file.py:3)` of the line that the user wrote, where that is known."""
        found = place(self.equation).removeprefix(" at ")
        return f" ({found})" if found else ""


class Activation(NamedTuple):
    """Steps that are one function of known constant: how many, its argument and its result.

    The constant may depend on the program's known arrays, as a learned slope does.
    """

    count: int
    argument: Tracked
    out: Tracked
    constant: Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Program:
    """A function's operations on its argument, calls, short loops and known branches written out.

    Attributes:
        argument: the tracked argument.
        steps: in order.
        outputs: what it returns, tracked or known.
        knowns: arrays that do not depend on the argument, tracers of an outer trace too.
    """

    argument: Tracked
    steps: tuple[Step, ...]
    outputs: tuple[Tracked | Known, ...]
    knowns: tuple[Any, ...]

    def without_knowns(self) -> Program:
        """The same operations, to be kept where no array may be."""
        return replace(self, knowns=())


def read_program(fn: Callable[..., Any], struct: jax.ShapeDtypeStruct) -> Program:
    """Trace `fn` on an array of that shape, and evaluate all that does not depend on it."""
    closed = as_written(jax.make_jaxpr(fn)(struct))
    argument = Tracked(0, tuple(struct.shape), jnp.dtype(struct.dtype))
    steps: list[Step] = []
    knowns: list[Any] = []
    count = 1

    def operand(value: Any) -> Tracked | Known:
        if isinstance(value, Tracked):
            return value
        knowns.append(value)
        return Known(len(knowns) - 1)

    def apply(equation: Any, operands: Sequence[Any]) -> list[Any]:
        nonlocal count
        name = equation.primitive.name
        if not any(isinstance(each, Tracked) for each in operands):
            return _evaluate(equation, operands)
        if name in CALLS | _CUSTOM:
            return interpret_inner(equation, operands, apply)
        if (found := written_out(equation, operands, apply)) is not None:
            return found
        outs = []
        for var in equation.outvars:
            outs.append(Tracked(count, tuple(var.aval.shape), var.aval.dtype))
            count += 1
        steps.append(Step(equation, tuple(map(operand, operands)), tuple(outs)))
        return outs

    found = interpret(closed.jaxpr, closed.consts, [argument], apply)
    outputs = tuple(map(operand, found))
    return Program(argument, _needed(steps, outputs), outputs, tuple(knowns))


def _evaluate(equation: Any, operands: Sequence[Any]) -> list[Any]:
    """Evaluate an equation, at once where all is at hand: constants stay readable under jit."""
    if any(is_traced(each) for each in operands):
        return bind(equation, operands)
    with jax.ensure_compile_time_eval():
        return bind(equation, operands)


def _needed(steps: Sequence[Step], outputs: Sequence[Tracked | Known]) -> tuple[Step, ...]:
    """Steps on whose results an output depends."""
    wanted = {each.index for each in outputs if isinstance(each, Tracked)}
    kept = []
    for step in reversed(steps):
        if any(out.index in wanted for out in step.outs):
            kept.append(step)
            wanted |= {each.index for each in step.operands if isinstance(each, Tracked)}
    return tuple(reversed(kept))
