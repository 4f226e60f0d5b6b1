"""A program whose batch has a symbol for its length (`jax.export`), as one that can be read.

A number stands for the symbol. What is read then holds for every length, because nothing that is
read depends on which number that is: the length itself stays an unknown value, as does every array
along the batch but for those that repeat the same there (`may_be_known`), a loop over the batch is
read as one of any number of steps, and lengths that are no multiple of the batch's, or a second one
in the same array, are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.extend.core as jex
import numpy as np

from .._memory import is_symbolic

# Prime, and no usual number of channels or taps, so that the batch's axis is taken for no other.
_LENGTH = 5
# Gives the length as a value: it has no array to be read.
_VALUE = "dim_as_value"


class StandIn(int):
    """The length of an axis that stands for a multiple of the batch's, which is a symbol."""


class LengthError(ValueError):
    """A program computes with the length of its batch in a way that cannot be read."""


def is_stand_in(shape: Iterable[Any]) -> bool:
    """Whether an axis of that shape is as long as a symbol says."""
    return any(isinstance(size, StandIn) for size in shape)


# Each entry of the output is made of the operands' entries in the same place.
_ENTRYWISE = frozenset({
    "abs", "add", "and", "clamp", "convert_element_type", "copy", "eq", "ge", "gt", "le", "lt",
    "max", "min", "mul", "ne", "neg", "not", "or", "rem", "select_n", "sub", "xor",
})  # fmt: skip


def may_be_known(equation: Any) -> bool:
    """Whether the entries of an output may be known, if those of all operands are.

    Along the batch they are the same then: an array that is there already keeps that, entry by
    entry, and one that is repeated along it has it. What is made of it across the batch may count
    its rows.
    """
    atoms = (*equation.invars, *equation.outvars)
    if not any(is_stand_in(getattr(atom.aval, "shape", ())) for atom in atoms):
        return True
    name, params, shape = equation.primitive.name, equation.params, equation.outvars[0].aval.shape
    if len(equation.outvars) > 1 or not is_stand_in(shape):
        return False
    (along,) = (axis for axis, size in enumerate(shape) if isinstance(size, StandIn))
    if name in ("iota", "concatenate"):
        return params["dimension"] != along
    if name == "rev":
        return along not in params["dimensions"]
    if name == "reshape":  # axes of one entry come and go
        return _long(equation.invars[0].aval.shape) == _long(shape) and not params.get("dimensions")
    return name in _ENTRYWISE or name in ("broadcast_in_dim", "squeeze", "transpose")


def _long(shape: Iterable[int]) -> list[tuple[int, bool]]:
    """The axes of more than one entry; that of the batch is no other of the same number."""
    return [(size, isinstance(size, StandIn)) for size in shape if size != 1]


class _Type(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any


class _Variable:
    def __init__(self, aval: _Type) -> None:
        self.aval = aval


class _Jaxpr(NamedTuple):
    constvars: list[Any]
    invars: list[Any]
    eqns: list[_Equation]
    outvars: list[Any]


class _Closed(NamedTuple):
    jaxpr: _Jaxpr
    consts: list[Any]


class _Equation(NamedTuple):
    primitive: Any
    invars: list[Any]
    outvars: list[Any]
    params: dict[str, Any]
    effects: Any
    source_info: Any


def with_known_length(closed: Any, symbol: Any) -> Any:
    """A closed jaxpr, to be read, in which a number stands for the symbol of the batch's length.

    Raises:
        LengthError: it has other lengths that are not known.
    """
    return _Reader(symbol).value(closed)


def with_own_length(part: Any) -> Any:
    """An equation, or a jaxpr, in which a number stands for the symbol in its lengths, if any.

    Raises:
        LengthError: they are not all multiples of one of them.
    """
    atoms = [*part.invars, *part.outvars]
    sizes = {size for atom in atoms for size in atom.aval.shape if is_symbolic(size)}
    if not sizes:
        return part
    for symbol in sizes:
        reader = _Reader(symbol)
        try:
            if hasattr(part, "eqns"):
                return reader.jaxpr(part)
            variables = [atom for atom in part.invars if not isinstance(atom, jex.Literal)]
            around = _Jaxpr([], list(dict.fromkeys(variables)), [part], part.outvars)
            return reader.jaxpr(around).eqns[0]
        except LengthError:
            continue
    raise LengthError(f"it has the lengths {sizes}, of which none divides all")


class _Reader:
    def __init__(self, symbol: Any) -> None:
        self.symbol = symbol

    def size(self, size: Any) -> int:
        multiple = size // self.symbol
        if not isinstance(multiple, int) or multiple * self.symbol != size:
            raise LengthError(f"it computes with the length {size} where the batch's is a symbol")
        return StandIn(multiple * _LENGTH)

    def type(self, aval: Any) -> _Type:
        shape = tuple(getattr(aval, "shape", ()))
        known = self.value(shape)
        if sum(isinstance(size, StandIn) for size in known) > 1:
            raise LengthError(f"an array {list(shape)} has two axes of a length that is a symbol")
        return _Type(known, getattr(aval, "dtype", None))

    def value(self, value: Any) -> Any:
        """A parameter, with what it holds."""
        if isinstance(value, type(self.symbol)):
            return self.size(value)
        if hasattr(value, "jaxpr") and hasattr(value, "consts"):
            if any(isinstance(s, type(self.symbol)) for c in value.consts for s in np.shape(c)):
                raise LengthError("a constant of it is as long as the batch, which is a symbol")
            return _Closed(self.jaxpr(value.jaxpr), list(value.consts))
        if hasattr(value, "eqns"):
            return self.jaxpr(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self.value, value))
        if isinstance(value, tuple | list):
            return type(value)(map(self.value, value))
        if isinstance(value, dict):
            return {key: self.value(each) for key, each in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            changed = {name: self.value(each) for name, each in held.items()}
            same = all(changed[name] is each for name, each in held.items())
            return value if same else dataclasses.replace(value, **changed)
        return value

    def jaxpr(self, jaxpr: Any) -> _Jaxpr:
        known: dict[Any, _Variable] = {}

        def new(variable: Any) -> _Variable:
            known[variable] = _Variable(self.type(variable.aval))
            return known[variable]

        def old(atom: Any) -> Any:
            return atom if isinstance(atom, jex.Literal) else known[atom]

        constvars, invars = list(map(new, jaxpr.constvars)), list(map(new, jaxpr.invars))
        equations = []
        for equation in jaxpr.eqns:
            is_value = equation.primitive.name == _VALUE
            params = equation.params if is_value else self.value(dict(equation.params))
            operands = list(map(old, equation.invars))
            equations.append(
                _Equation(
                    equation.primitive, operands, list(map(new, equation.outvars)), params,
                    equation.effects, equation.source_info,
                )
            )  # fmt: skip
        return _Jaxpr(constvars, invars, equations, list(map(old, jaxpr.outvars)))
