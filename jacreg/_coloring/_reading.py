"""From a Linearization to its relation and its fingerprint."""

from __future__ import annotations

from typing import Any

import jax

from .._dependence import fingerprint as fingerprint
from .._dependence import linear_program as linear_program
from .._dependence import read_dependence
from .._linearize import Linearization
from ._relation import Relation, relation_of


def dependence_of(lin: Linearization) -> tuple[Relation, Any, Any]:
    """Read which output entries of an example see which of its input entries."""
    program = linear_program(lin)
    outputs, reader = read_dependence(program.closed, program.first_tangent)
    tangents = jax.tree.leaves(lin.value if program.reverse else lin.xs)
    relation = relation_of(outputs, [tuple(t.shape) for t in tangents], program.reverse)
    return relation, program, reader
