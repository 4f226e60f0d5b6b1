"""Entries of an axis put beside each other and taken apart.

Channels: a time, a condition, a skip connection. Spatial axes: padding by other entries of the
image, as layers write it (a circle, a reflection, the edge again).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ._chain import Unreadable
from ._tangent import UNIT, Tangent, open_units


def concatenate(equation: Any, *operands: Any) -> Tangent:
    """The operands along an axis; a constant among those of a linear program is zero."""
    axis, total = equation.params["dimension"], None
    sizes = [atom.aval.shape[axis] for atom in equation.invars]
    (first, *others) = (each for each in operands if isinstance(each, Tangent))
    if (
        not others
        and equation.outvars[0].aval.shape == equation.invars[operands.index(first)].aval.shape
    ):
        return first
    role = next((each.axes[axis] for each in (first, *others) if each.axes[axis] != UNIT), None)
    if role is None:
        role = first.channels
    for number, operand in enumerate(operands):
        if isinstance(operand, Tangent):
            part = _beside(operand, axis, role, sum(sizes[:number]), sum(sizes[number + 1 :]))
            total = part if total is None else total.plus(part)
    assert total is not None
    return total


def pad(equation: Any, operand: Any, value: Any) -> Tangent:
    """Entries before, behind and between, or fewer: a linear program fills in zeros."""
    if isinstance(value, Tangent):
        raise Unreadable("padded by a tangent")
    shape = equation.invars[0].aval.shape
    for axis, (low, high, interior) in enumerate(equation.params["padding_config"]):
        if (low, high, interior) == (0, 0, 0):
            continue
        role = operand.channels if operand.axes[axis] == UNIT else operand.axes[axis]
        if role == operand.channels:
            if interior or min(low, high) < 0:
                raise Unreadable("padding of another form")
            operand = _beside(operand, axis, role, low, high)
        else:
            places = np.full((shape[axis] - 1) * (interior + 1) + 1, -1)
            places[:: interior + 1] = np.arange(shape[axis])
            places = np.concatenate([np.full(max(low, 0), -1), places, np.full(max(high, 0), -1)])
            places = places[max(-low, 0) : len(places) - max(-high, 0)]
            operand = _placed(operand, axis, role, places)
    return operand


def slice_(equation: Any, operand: Tangent) -> Any:
    """A part of the channels, or of spatial axes."""
    params, shape = equation.params, equation.invars[0].aval.shape
    starts, stops = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * len(shape)
    for axis, (start, stop, stride) in enumerate(zip(starts, stops, strides, strict=True)):
        if (start, stop, stride) == (0, shape[axis], 1):
            continue
        role = operand.axes[axis]
        if role != operand.channels:
            operand = _placed(operand, axis, role, np.arange(start, stop, stride))
            continue
        if stride != 1:
            raise Unreadable("a slice with strides")
        cut = list(shape)
        cut[axis] = stop - start
        operand = _restricted(operand, start, stop, tuple(cut), equation.outvars[0].aval.dtype)
        if not isinstance(operand, Tangent):
            return jnp.zeros(equation.outvars[0].aval.shape, operand.dtype)
    return Tangent(open_units(operand.axes, equation.outvars[0].aval.shape), operand.chains)


def rev(equation: Any, operand: Tangent) -> Tangent:
    """A spatial axis from behind."""
    shape = equation.invars[0].aval.shape
    for axis in equation.params["dimensions"]:
        if shape[axis] > 1:
            places = np.arange(shape[axis])[::-1]
            operand = _placed(operand, axis, operand.axes[axis], places)
    return operand


def repeated(equation: Any, operand: Tangent) -> Tangent | None:
    """A row again and again, as a `broadcast_in_dim` with an axis for the repeats; else None."""
    old, new = (each[0].aval.shape for each in (equation.invars, equation.outvars))
    places = list(equation.params["broadcast_dimensions"])
    added = [axis for axis in range(len(new)) if axis not in places and new[axis] != 1]
    missing = [r for r in range(1, operand.channels) if r not in operand.axes]
    if len(added) != 1 or len(missing) != 1 or [new[axis] for axis in places] != list(old):
        return None
    ((axis,), (role,)) = added, missing
    if operand.chains[0].shape[role - 1] != 1:
        return None
    roles = [UNIT] * len(new)
    for place, own in zip(places, operand.axes, strict=True):
        roles[place] = own
    roles[axis] = role
    return _placed(Tangent(tuple(roles), operand.chains), axis, role, np.zeros(new[axis], int))


def split(equation: Any, operand: Tangent) -> list[Any]:
    """The channels in parts."""
    if operand.axes[equation.params["axis"]] != operand.channels:
        raise Unreadable("a split of another axis")
    stops = np.cumsum([int(size) for size in equation.params["sizes"]])
    starts = [0, *stops[:-1]]
    return [
        _restricted(operand, int(start), int(stop), variable.aval.shape, variable.aval.dtype)
        for start, stop, variable in zip(starts, stops, equation.outvars, strict=True)
    ]


def _placed(operand: Tangent, axis: int, role: int, places: np.ndarray) -> Tangent:
    """Entry i along a spatial axis is the one that was `places[i]`, zero where that is -1."""
    if role not in range(1, operand.channels):
        raise Unreadable("entries of another axis in other places")
    axes = (*operand.axes[:axis], role, *operand.axes[axis + 1 :])
    return Tangent(axes, tuple(chain.placed(role - 1, places) for chain in operand.chains))


def _beside(operand: Tangent, axis: int, role: int, before: int, behind: int) -> Tangent:
    """With zeros before and behind."""
    if not operand.may_be(axis, role):
        raise Unreadable("another axis than the channels")
    if role == operand.channels:
        axes = (*operand.axes[:axis], role, *operand.axes[axis + 1 :])
        return Tangent(axes, tuple(chain.embedded(before, behind) for chain in operand.chains))
    size = operand.chains[0].shape[role - 1] if role else 0
    places = np.concatenate([np.full(before, -1), np.arange(size), np.full(behind, -1)])
    return _placed(operand, axis, role, places)


def _restricted(operand: Tangent, start: int, stop: int, shape: Any, dtype: Any) -> Any:
    found = (chain.restricted(start, stop, dtype) for chain in operand.chains)
    chains = tuple(chain for chain in found if chain is not None)
    if not chains:
        # Nothing of the input: a constant of a linear program, which is zero.
        return jnp.zeros(shape, dtype)
    return Tangent(open_units(operand.axes, shape), chains)
