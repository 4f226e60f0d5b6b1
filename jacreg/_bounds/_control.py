"""Loops and branches that do not hang on values, as the operations that they come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from .._interpret import interpret, opened, scan_counts
from .._traced import is_traced

_MOST_OPERATIONS = 4096  # of a loop whose steps are written out


def written_out(equation: Any, operands: Sequence[Any], apply: Any) -> list[Any] | None:
    """The outputs of a `scan` or a `cond`, its equations given to `apply`; None where it stays.

    A loop is as many bodies as it has steps, a choice the branch that is taken: known where its
    index is a number while the program is read.

    Args:
        equation: of any primitive.
        operands: as `apply` takes them.
        apply: as of `interpret`.
    """
    name = equation.primitive.name
    if name == "cond":
        branch = _branch(equation, operands[0])
        return None if branch is None else interpret(*opened(branch), operands[1:], apply)
    if name != "scan" or not _is_short(equation):
        return None
    structs = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
    closed = jax.make_jaxpr(lambda *given: _steps(equation, given))(*structs)
    return interpret(closed.jaxpr, closed.consts, operands, apply)


def _branch(equation: Any, index: Any) -> Any:
    if not isinstance(index, int | np.generic | np.ndarray | jax.Array) or is_traced(index):
        return None
    branches = equation.params["branches"]
    return branches[min(max(int(index), 0), len(branches) - 1)]


def _is_short(equation: Any) -> bool:
    return isinstance(equation.params["length"], int) and _count(equation) <= _MOST_OPERATIONS


def _count(equation: Any) -> int:
    """Operations that an equation comes to."""
    times = equation.params["length"] if equation.primitive.name == "scan" else 1
    inner = jex.jaxprs_in_params(equation.params)
    return times * sum(max(1, _count(each)) for jaxpr in inner for each in jaxpr.eqns)


def _steps(equation: Any, operands: Sequence[Any]) -> list[Any]:
    """A scan as a Python loop."""
    consts, carries = scan_counts(equation)
    fixed, carry = operands[:consts], list(operands[consts : consts + carries])
    rows = operands[consts + carries :]
    body = jex.jaxpr_as_fun(equation.params["jaxpr"])
    order = range(equation.params["length"])
    stacked: list[list[Any]] = []
    for place in reversed(order) if equation.params["reverse"] else order:
        found = body(*fixed, *carry, *(each[place] for each in rows))
        carry, seen = list(found[:carries]), list(found[carries:])
        stacked.append(seen)
    if equation.params["reverse"]:
        stacked.reverse()
    outs = equation.outvars[carries:]
    empty = [jnp.zeros(each.aval.shape, each.aval.dtype) for each in outs]
    return [*carry, *(map(jnp.stack, zip(*stacked, strict=True)) if stacked else empty)]
