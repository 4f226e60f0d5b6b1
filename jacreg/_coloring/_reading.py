"""From a Linearization to its relation."""

from __future__ import annotations

from .._dependence import LinearProgram, Reader, read_dependence
from .._linearize import Linearization
from ._linear_program import linear_program
from ._relation import Relation, relation_of


def dependence_of(lin: Linearization) -> tuple[Relation, LinearProgram, Reader]:
    """Read which output entries of an example see which of its input entries."""
    program = linear_program(lin)
    relation, reader = relation_in(program)
    return relation, program, reader


def relation_in(program: LinearProgram) -> tuple[Relation, Reader]:
    """The relation that the linear program of a linearised function shows."""
    outputs, reader = read_dependence(program)
    tangents = program.closed.jaxpr.invars[program.first_tangent :]
    relation = relation_of(outputs, [tuple(t.aval.shape) for t in tangents], program.reverse)
    return relation, reader
