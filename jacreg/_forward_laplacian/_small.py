"""Linear operations on arrays that are shorter than their operands along axes of no change.

The derivative of a layer by its input is the same for every example until a value enters it: it
is carried once, with an axis of length 1, and widened where an operation needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._dependence._reshape import runs
from .._interpret import bind

if TYPE_CHECKING:
    from jaxtyping import Array


def apply_small(equation: Any, which: int, array: Array, values: Sequence[Any]) -> list[Array]:
    """Apply a linear operation to operand `which`, its axes of length 1 widened where it must be.

    Args:
        equation: linear in that operand.
        which: the operand.
        array: that operand, or with axes of length 1 along which it is constant.
        values: all operands, for those that are not `which`.
    """
    name, params = equation.primitive.name, equation.params
    shape = equation.invars[which].aval.shape
    if array.shape == shape and name not in ("dot_general",):
        return _bound(equation, which, array, values)
    rule = _RULES.get(name)
    if rule is not None:
        return [rule(params, which, array, shape, equation, values)]
    return _bound(equation, which, jnp.broadcast_to(array, shape), values)


def _bound(equation: Any, which: int, array: Array, values: Sequence[Any]) -> list[Array]:
    return bind(equation, [array if k == which else each for k, each in enumerate(values)])


def _transpose(params: Any, which: int, array: Array, *_: Any) -> Array:
    return jnp.transpose(array, params["permutation"])


def _broadcast(params: Any, which: int, array: Array, *_: Any) -> Array:
    shape = [1] * len(params["shape"])
    for axis, place in enumerate(params["broadcast_dimensions"]):
        shape[place] = array.shape[axis]
    return jax.lax.broadcast_in_dim(array, shape, params["broadcast_dimensions"])


def _reshape(
    params: Any, which: int, array: Array, shape: Any, equation: Any, values: Any
) -> Array:
    new = equation.outvars[0].aval.shape
    if params["dimensions"] is not None or 0 in shape:
        return _bound(equation, which, jnp.broadcast_to(array, shape), values)[0]
    widened, result = list(array.shape), [1] * len(new)
    old_axes, new_axes = ([k for k, n in enumerate(each) if n != 1] for each in (shape, new))
    for old, into in runs([shape[k] for k in old_axes], [new[k] for k in new_axes]):
        before, old_axes = old_axes[: len(old)], old_axes[len(old) :]
        after, new_axes = new_axes[: len(into)], new_axes[len(into) :]
        if any(array.shape[axis] != 1 for axis in before):
            for axis in before:
                widened[axis] = shape[axis]
            for axis in after:
                result[axis] = new[axis]
    return jnp.broadcast_to(array, widened).reshape(result)


def _squeeze(params: Any, which: int, array: Array, *_: Any) -> Array:
    return jnp.squeeze(array, params["dimensions"])


def _sum(params: Any, which: int, array: Array, shape: Any, equation: Any, values: Any) -> Array:
    return summed_but(equation, array)


def summed_but(equation: Any, array: Array, kept: Sequence[int] = ()) -> Array:
    """A sum over axes without summing over some of them, which come first."""
    shape = equation.invars[0].aval.shape
    axes = tuple(axis for axis in equation.params["axes"] if axis not in kept)
    count = prod(shape[axis] for axis in axes if array.shape[axis] != shape[axis])
    left = [axis for axis in range(array.ndim) if axis not in axes]
    order = (*kept, *(axis for axis in left if axis not in kept))
    total = array.sum(axis=axes).transpose([left.index(axis) for axis in order])
    return total if count == 1 else total * count


def _dot(params: Any, which: int, array: Array, shape: Any, equation: Any, values: Any) -> Array:
    return contracted_but(equation, which, array, values)


def contracted_but(
    equation: Any, which: int, array: Array, values: Any, kept: Sequence[int] = ()
) -> Array:
    """A contraction without summing over some axes of operand `which`, which come first."""
    (left, right), batch = equation.params["dimension_numbers"]
    shape, own = equation.invars[which].aval.shape, (left, right)[which]
    places = [own.index(axis) for axis in kept]
    rest = [k for k in range(len(own)) if k not in places]
    numbers = (
        (tuple(left[k] for k in rest), tuple(right[k] for k in rest)),
        ((*(left[k] for k in places), *batch[0]), (*(right[k] for k in places), *batch[1])),
    )
    needed = (*own, *batch[which])
    array = jnp.broadcast_to(
        array, [n if axis in needed else array.shape[axis] for axis, n in enumerate(shape)]
    )
    pair = [array if k == which else each for k, each in enumerate(values)]
    params = equation.params
    return jax.lax.dot_general(
        *pair,
        dimension_numbers=numbers,
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )


def _convolution(
    params: Any, which: int, array: Array, shape: Any, equation: Any, values: Any
) -> Array:
    axis = params["dimension_numbers"].lhs_spec[0]
    one = which == 0 and array.shape[axis] == 1 and params["batch_group_count"] == 1
    array = jnp.broadcast_to(
        array, [1 if one and place == axis else n for place, n in enumerate(shape)]
    )
    return _bound(equation, which, array, values)[0]


_RULES = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "reduce_sum": _sum,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
}
