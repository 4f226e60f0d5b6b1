"""Which arrays hold the same numbers, told from the programs that compute them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np

from .._interpret import CALLS, inner_program, interpret, opened
from .._linearize import Linearization, linearize
from .._signature import Signature

# Its rule is of no account to the value.
_CUSTOM = "custom_jvp_call"
_COMMUTATIVE = ("add", "add_any", "mul", "max", "min", "and", "or")
# Each call gives other numbers, without an effect that says so.
_STATEFUL = ("rng_uniform", "infeed")
_NEUTRAL = {"mul": 1, "add": 0, "add_any": 0}


def first_twins(
    lin: Linearization, arrays: Callable[[Linearization], Sequence[Any]]
) -> Sequence[int]:
    """For each of `arrays(lin)`, the place of the first one that is computed in the same way.

    A Hessian meets each derivative of an activation twice, on the way there and on the way back,
    as two arrays that JAX computed apart. XLA sees that they are one, but not in a loop that
    takes both as operands, and differentiation does not see it at all.

    The function is linearised once more, abstractly, so that the whole program is there to be
    read: nothing is computed. Where the second linear program is not the first one word by word,
    nothing is called a twin.

    Args:
        lin: a linearised function.
        arrays: of a linearised function; its constants determine them.
    """
    linear = [Signature.of(lin.program.linear)]

    def again(xs: Any) -> Sequence[Any]:
        other = linearize(lin.evaluate, xs)
        linear.append(Signature.of(other.program.linear))
        return arrays(other)

    program = jax.make_jaxpr(again)(lin.xs)
    outputs = range(len(program.jaxpr.outvars))
    if linear[0] != linear[1]:
        return outputs
    values = _Program().run(program, [_Value() for _ in program.jaxpr.invars])
    return [values.index(value) for value in values]


class _Value:
    """What an operation gives; the same object for the same operation on the same operands."""


class _Program:
    """Values of a program by how they are computed."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Value] = {}
        self._transposed: dict[_Value, tuple[_Value, tuple[int, ...]]] = {}

    def run(self, program: Any, operands: Sequence[Any]) -> list[_Value]:
        """Values of the outputs of a closed program, or of one without constants."""
        jaxpr, consts = opened(program)
        own = [self._value(("array", id(const))) for const in consts]
        outs = interpret(jaxpr, own, operands, self._apply)
        return [self._of(out) for out in outs]

    def _value(self, key: Hashable) -> _Value:
        return self._known.setdefault(key, _Value())

    def _of(self, operand: Any) -> _Value:
        if isinstance(operand, _Value):
            return operand
        number = np.asarray(operand)
        return self._value(("number", number.dtype, number.shape, number.tobytes()))

    def _apply(self, equation: Any, operands: list[Any]) -> list[_Value]:
        name, params = equation.primitive.name, equation.params
        values = [self._of(operand) for operand in operands]
        if name in (*CALLS, _CUSTOM):
            return self.run(inner_program(equation), values)
        if name == "transpose":
            return [self._transpose(values[0], tuple(params["permutation"]))]
        if name == "slice" and all(stride == 1 for stride in params["strides"] or ()):
            starts, stops = params["start_indices"], params["limit_indices"]
            return [self._slice(values[0], tuple(zip(starts, stops, strict=True)))]
        kept = _kept(equation, operands)
        if kept is not None:
            return [values[kept]]
        if name in _COMMUTATIVE:
            values.sort(key=id)
        key = (name, tuple(sorted(params.items())), tuple(values))
        if equation.effects or name in _STATEFUL or not _is_hashable(key):
            return [_Value() for _ in equation.outvars]
        return [self._value((*key, place)) for place in range(len(equation.outvars))]

    def _transpose(self, value: _Value, permutation: tuple[int, ...]) -> _Value:
        source, before = self._transposed.get(value, (value, tuple(range(len(permutation)))))
        after = tuple(before[axis] for axis in permutation)
        if after == tuple(range(len(after))):
            return source
        result = self._value(("transpose", source, after))
        self._transposed[result] = source, after
        return result

    def _slice(self, value: _Value, window: tuple[tuple[int, int], ...]) -> _Value:
        """A part of an array transposed is that part of the array, transposed."""
        source, order = self._transposed.get(value, (value, tuple(range(len(window)))))
        own = tuple(window[order.index(axis)] for axis in range(len(order)))
        return self._transpose(self._value(("slice", source, own)), order)


# Parameters of operations that may return their operand, all of which `_returns_operand` looks at
# or the shape and type of the result say. With another one an operation is taken for what it is.
_MAY_RETURN = {
    "copy": set(),
    "copy_p": set(),
    "convert_element_type": {"new_dtype", "weak_type", "sharding"},
    "broadcast_in_dim": {"shape", "broadcast_dimensions", "sharding"},
    "reshape": {"new_sizes", "dimensions", "sharding"},
}


def _kept(equation: Any, operands: list[Any]) -> int | None:
    """The operand that an operation returns as it is, if it does."""
    name, (out, *_) = equation.primitive.name, equation.outvars
    same = [atom.aval.shape == out.aval.shape and atom.aval.dtype == out.aval.dtype
            for atom in equation.invars]  # fmt: skip
    if name in _MAY_RETURN:
        return 0 if same[0] and _returns_operand(name, equation.params) else None
    if name in _NEUTRAL and len(operands) == 2:
        for place, operand in enumerate(operands):
            if same[1 - place] and not isinstance(operand, _Value):
                return 1 - place if np.all(np.asarray(operand) == _NEUTRAL[name]) else None
    return None


def _returns_operand(name: str, params: dict[str, Any]) -> bool:
    """Whether an operation that keeps shape and type keeps the entries in their places."""
    order = params.get("dimensions" if name == "reshape" else "broadcast_dimensions")
    in_order = order is None or tuple(order) == tuple(range(len(order)))
    return in_order and set(params) <= _MAY_RETURN[name]


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True
