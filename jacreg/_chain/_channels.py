"""Channels put beside each other and taken apart: a time, a condition, a skip connection."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ._chain import Unreadable
from ._tangent import Tangent, open_units


def concatenate(equation: Any, *operands: Any) -> Tangent:
    """The operands along the channels; a constant among those of a linear program is zero."""
    axis, total = equation.params["dimension"], None
    sizes = [atom.aval.shape[axis] for atom in equation.invars]
    for number, operand in enumerate(operands):
        if isinstance(operand, Tangent):
            part = _embedded(operand, axis, sum(sizes[:number]), sum(sizes[number + 1 :]))
            total = part if total is None else total.plus(part)
    assert total is not None
    return total


def pad(equation: Any, operand: Any, value: Any) -> Tangent:
    """Channels before and behind, or fewer: what fills them in a linear program is zero."""
    if isinstance(value, Tangent):
        raise Unreadable("padded by a tangent")
    config = equation.params["padding_config"]
    axes = [axis for axis, entry in enumerate(config) if tuple(entry) != (0, 0, 0)]
    if not axes:
        return operand
    if len(axes) > 1:
        raise Unreadable("padding of several axes")
    (axis,) = axes
    low, high, interior = config[axis]
    if interior or min(low, high) < 0:
        raise Unreadable("padding of another form")
    return _embedded(operand, axis, low, high)


def slice_(equation: Any, operand: Tangent) -> Any:
    """A part of the channels."""
    params, shape = equation.params, equation.invars[0].aval.shape
    starts, stops = params["start_indices"], params["limit_indices"]
    if params["strides"] is not None and any(stride != 1 for stride in params["strides"]):
        raise Unreadable("a slice with strides")
    axes = [axis for axis, size in enumerate(shape) if (starts[axis], stops[axis]) != (0, size)]
    if not axes:
        return operand
    if [operand.axes[axis] for axis in axes] != [operand.channels]:
        raise Unreadable("a slice of another axis")
    (axis,) = axes
    return _restricted(operand, starts[axis], stops[axis], equation.outvars[0].aval)


def split(equation: Any, operand: Tangent) -> list[Any]:
    """The channels in parts."""
    if operand.axes[equation.params["axis"]] != operand.channels:
        raise Unreadable("a split of another axis")
    stops = np.cumsum([int(size) for size in equation.params["sizes"]])
    starts = [0, *stops[:-1]]
    return [
        _restricted(operand, int(start), int(stop), variable.aval)
        for start, stop, variable in zip(starts, stops, equation.outvars, strict=True)
    ]


def _embedded(operand: Tangent, axis: int, before: int, behind: int) -> Tangent:
    if not operand.may_be(axis, operand.channels):
        raise Unreadable("another axis than the channels")
    axes = (*operand.axes[:axis], operand.channels, *operand.axes[axis + 1 :])
    return Tangent(axes, tuple(chain.embedded(before, behind) for chain in operand.chains))


def _restricted(operand: Tangent, start: int, stop: int, aval: Any) -> Any:
    found = (chain.restricted(start, stop, aval.dtype) for chain in operand.chains)
    chains = tuple(chain for chain in found if chain is not None)
    if not chains:
        # Nothing of the input: a constant of a linear program, which is zero.
        return jnp.zeros(aval.shape, aval.dtype)
    return Tangent(open_units(operand.axes, aval.shape), chains)
