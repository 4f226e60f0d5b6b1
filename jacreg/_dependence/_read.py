"""Read a program (a jaxpr) for what each output entry depends on."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from .._derivative import is_inexact
from .._forms import form_of
from .._interpret import CALLS, inner_program, opened
from .._source import place
from . import _rules_axes, _rules_control, _rules_elementwise, _rules_index, _rules_linear
from ._length import is_stand_in, may_be_known
from ._on_numpy import ON_NUMPY
from ._operand import Equation, Operand, Reader, everything, rule_of
from ._pattern import identity
from ._program import LinearProgram, structural_value
from ._support import support_of

# The rules register themselves on import.
_RULE_FILES = (_rules_axes, _rules_control, _rules_elementwise, _rules_index, _rules_linear)
# Structural values larger than this are treated as unknown.
_MOST_VALUES = 4_000_000
_UNEVALUATED = (
    "random", "threefry", "rng", "pure_callback", "io_callback", "debug", "dim_as_value",
)  # fmt: skip


# Of a value of the outermost program, by its equation and output, and what it depends on, to
# whether what is made of it shall not depend on that.
Cutter = Callable[[int, int, Operand], bool]


def read_dependence(
    program: LinearProgram, cut: Cutter | None = None
) -> tuple[list[Operand], Reader]:
    """Return what each output of a linear program depends on, and what could not be read.

    Args:
        program: the program.
        cut: asked of each value that depends on something; those that it names pass nothing on.
    """
    reader = _reader()
    operands, leaf = [], 0
    closed = program.closed
    for number, variable in enumerate(closed.jaxpr.invars):
        shape = tuple(variable.aval.shape)
        if number < program.first_tangent:
            operands.append(Operand(shape, value=program.values[number]))
        else:
            operands.append(Operand(shape, {leaf: (identity(shape),)}))
            leaf += 1
    constants = [_structural(constant) for constant in closed.consts]
    return _run(closed.jaxpr, constants, operands, reader, cut), reader


def read_program(jaxpr: Any, consts: Any, operands: list[Operand]) -> list[Operand]:
    """What each output of any program (a jaxpr) depends on, linear or not."""
    return _reader().read(jaxpr, consts, operands)


def read_equation(equation: Any, operands: list[Operand]) -> list[Operand]:
    """The same of one equation."""
    return _apply(equation, operands, _shapes(equation), _reader())


def _reader() -> Reader:
    reader = Reader(read=lambda *_: [])
    reader.read = lambda program, consts, operands: _run(
        program, [_structural(c) for c in consts], operands, reader
    )
    return reader


def _shapes(equation: Any) -> list[tuple[int, ...]]:
    return [tuple(getattr(v.aval, "shape", ())) for v in equation.outvars]


def _structural(constant: Any) -> Operand:
    return Operand(tuple(np.shape(constant)), value=structural_value(constant))


def _run(
    jaxpr: Any,
    constants: list[Operand],
    operands: list[Operand],
    reader: Reader,
    cut: Cutter | None = None,
) -> list[Operand]:
    environment: dict[Any, Operand] = {}
    environment.update(zip(jaxpr.constvars, constants, strict=True))
    environment.update(zip(jaxpr.invars, operands, strict=True))

    def look_up(atom: Any) -> Operand:
        if isinstance(atom, jex.Literal):
            value = np.asarray(atom.val)
            # The tangent of an integer is no number.
            known = value.dtype != jax.dtypes.float0
            return Operand(tuple(value.shape), value=value if known else None)
        return environment[atom]

    for number, equation in enumerate(jaxpr.eqns):
        inputs = [look_up(atom) for atom in equation.invars]
        outputs = _apply(equation, inputs, _shapes(equation), reader)
        if cut is not None:
            outputs = [
                Operand(found.shape) if found.dependence and cut(number, output, found) else found
                for output, found in enumerate(outputs)
            ]
        environment.update(zip(equation.outvars, outputs, strict=True))
    return [look_up(atom) for atom in jaxpr.outvars]


def _apply(
    equation: Any, inputs: list[Operand], shapes: list[tuple[int, ...]], reader: Reader
) -> list[Operand]:
    name = equation.primitive.name
    if any(operand.dependence for operand in inputs):
        if form_of(equation).degree == "zero":
            return [Operand(shape) for shape in shapes]
        known = {*reader.dense_primitives, reader.mixing}
        call = Equation(name, equation.params, inputs, shapes, reader, equation)
        rule = rule_of(name)
        try:
            found = rule(call) if rule is not None else everything(call, why=name)
        except (KeyError, AttributeError):
            # Another version of JAX writes this primitive in another way.
            found = everything(call, why=name)
        integer = [not is_inexact(v.aval) for v in equation.outvars]
        outputs = [
            Operand(shape, {} if skip else dependence)
            for shape, dependence, skip in zip(shapes, found, integer, strict=True)
        ]
        if reader.mixing is None and any(map(_mixes, outputs)):
            reader.mixing = name
        for obstacle in {*reader.dense_primitives, reader.mixing} - known:
            # A program inside a program may not know its place.
            reader.places[obstacle] = reader.places.get(obstacle) or place(equation)
        return outputs
    return _evaluate(equation, inputs, shapes, reader)


def _mixes(operand: Operand) -> bool:
    """Whether every entry depends on all entries of its example, of which there are several."""
    return any(
        prod(pattern.in_shape[1:]) > 1
        and all(
            (len(f.axes) == 1 and f.inputs == (0,)) or f.matrix.is_full for f in pattern.factors
        )
        for terms in operand.dependence.values()
        for pattern in terms
    )


def _evaluate(
    equation: Any, inputs: list[Operand], shapes: list[tuple[int, ...]], reader: Reader
) -> list[Operand]:
    """Outputs without dependence: computed where every input is structural, else unknown."""
    name = equation.primitive.name
    masked = None if any(map(is_stand_in, shapes)) else support_of(equation, inputs, _MOST_VALUES)
    unknown = [Operand(shape, masked=masked) for shape in shapes]
    if name in CALLS:
        return reader.read(*opened(inner_program(equation)), inputs)
    if (
        any(operand.value is None for operand in inputs)
        or name.startswith(_UNEVALUATED)
        or equation.effects
        or any(np.prod(shape) > _MOST_VALUES for shape in shapes)
        or not may_be_known(equation)
        # How a scatter combines two numbers is a program too, and an innocent one.
        or (any(jex.jaxprs_in_params(equation.params)) and not name.startswith("scatter"))
    ):
        return unknown
    values = [operand.value for operand in inputs]
    if name in ON_NUMPY:
        (variable,) = equation.outvars
        found = ON_NUMPY[name](equation.params, *values)
        return [Operand(shapes[0], value=np.asarray(found, dtype=variable.aval.dtype))]
    try:
        with jax.ensure_compile_time_eval():
            arrays = [
                jnp.asarray(value, dtype=atom.aval.dtype)
                for value, atom in zip(values, equation.invars, strict=True)
            ]
            results = equation.primitive.bind(*arrays, **equation.params)
    except Exception:
        # A primitive that will not run here is merely unknown: a superset follows.
        return unknown
    results = results if equation.primitive.multiple_results else [results]
    return [Operand(shape, value=np.asarray(r)) for shape, r in zip(shapes, results, strict=True)]
