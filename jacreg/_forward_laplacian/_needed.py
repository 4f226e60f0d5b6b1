"""What each value of a linear program is needed for, read from its outputs back to its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.extend.core as jex
import numpy as np

from .._dependence import Operand, Pattern, read_equation, structural_value
from .._dependence._boolean import Boolean
from .._dependence._pattern import identity, join, joint_entries, with_axes
from .._forms import form_of
from .._interpret import on_tangents
from ._colors import MOST_SEEN, Seen, compact, union

# Of each output of an equation, for each axis of x which entry is needed for the derivative by
# which position; None where the output is needed for nothing.
Needed = Sequence[tuple[Seen, ...] | None]

# Entries of a relation of several axes at once.
_MOST_JOINT = 1 << 21


def needed_by(
    jaxpr: Any, along: Sequence[bool], wanted: Sequence[tuple[Seen, ...]], values: Mapping[Any, Any]
) -> dict[int, Needed]:
    """What the outputs of each equation that takes a tangent are needed for, by the equation's id.

    A derivative of a value by an entry of x that it is not needed for may be left out.

    Args:
        jaxpr: linear in some of its inputs.
        along: in which.
        wanted: of each output of the program, for each axis of x.
        values: of the variables that are no tangents, of which indices and masks count.
    """
    found: dict[Any, tuple[Seen, ...]] = {}
    needed: dict[int, Needed] = {}

    def add(atom: Any, own: tuple[Seen, ...]) -> None:
        known = found.get(atom)
        found[atom] = own if known is None else union([known, own])

    for atom, own in zip(jaxpr.outvars, wanted, strict=True):
        if not isinstance(atom, jex.Literal):
            add(atom, own)
    for equation, places in reversed(list(on_tangents(jaxpr, along))):
        outs = [found.get(variable) for variable in equation.outvars]
        needed[id(equation)] = outs
        for which, place in enumerate(places):
            if place and any(own is not None for own in outs):
                own = _through(equation, which, outs, values)
                if own is not None:
                    add(equation.invars[which], own)
    return needed


def _through(
    equation: Any, which: int, outs: Needed, values: Mapping[Any, Any]
) -> tuple[Seen, ...] | None:
    """What an operand is needed for; None where no output depends on it."""
    known = [own for own in outs if own is not None]
    shape = tuple(equation.invars[which].aval.shape)
    shapes = {tuple(variable.aval.shape) for variable in equation.outvars}
    if form_of(equation).kind == "elementwise" and shapes == {shape}:
        return union(known)
    operands = [
        Operand(tuple(atom.aval.shape), value=_value(atom, values)) for atom in equation.invars
    ]
    operands[which] = Operand(shape, {0: (identity(shape),)})
    parts = [
        tuple(_image(pattern, axis) for axis in own)
        for read, own in zip(read_equation(equation, operands), outs, strict=True)
        if own is not None
        for pattern in read.dependence.get(0, ())
    ]
    return union(parts) if parts else None


def _value(atom: Any, values: Mapping[Any, Any]) -> np.ndarray | None:
    if isinstance(atom, jex.Literal):
        return np.asarray(atom.val)
    return structural_value(values.get(atom))


def _image(pattern: Pattern, needed: Seen) -> Seen:
    """What the entries of an operand are needed for, along one axis of x.

    Args:
        pattern: which entries of the operand each entry of the output depends on.
        needed: what the output is needed for.
    """
    rank, count = len(pattern.in_shape), needed.shape[-1]
    long = {axis for axis, size in enumerate(needed.shape[:-1]) if size > 1}
    factors = [factor for factor in pattern.factors if long & set(factor.axes)]
    if not factors or joint_entries(factors) > _MOST_JOINT:
        return needed.reshape(-1, count).any(axis=0).reshape((1,) * rank + (count,))
    joined = join(factors)
    # Along what no relation has, each entry of the operand serves all.
    others = tuple(axis for axis in long if axis not in joined.axes)
    rest = needed.any(axis=others, keepdims=True) if others else needed
    axes = tuple(sorted(joined.axes))
    rows = np.broadcast_to(rest, [
        size if axis in axes else 1 for axis, size in enumerate(pattern.shape)
    ] + [count]).reshape(-1, count)  # fmt: skip
    matrix = with_axes(pattern.shape, joined, axes).matrix
    found = (matrix.T @ Boolean.of_array(rows)).toarray()
    sizes = [pattern.in_shape[axis] for axis in joined.inputs]
    order = np.argsort(joined.inputs)
    found = found.reshape((*sizes, count)).transpose((*order, len(sizes)))
    dims = [size if axis in joined.inputs else 1 for axis, size in enumerate(pattern.in_shape)]
    return compact(found.reshape((*dims, count)))


def of_what_is_needed(seen: tuple[Seen, ...], needed: tuple[Seen, ...] | None) -> tuple[Seen, ...]:
    """What is seen and needed; all that is seen where it would be too large to be kept."""
    if needed is None:
        return seen
    both = [compact(own & other) for own, other in zip(seen, needed, strict=True)]
    return tuple(
        each if each.size <= MOST_SEEN else own for each, own in zip(both, seen, strict=True)
    )
