"""Linear operations: how much each can lengthen, from how much its operands are lengthened.

A gain is a bound on the Lipschitz constant, in the l2 norm, of a value as a function of the
argument; for a linear map it bounds the operator norm. One row an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, prod, sin, sqrt
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._interpret import bind
from .._structure import norm
from ._gram_iteration import spectral_bound
from ._program import Known, Step, Tracked
from ._symbol import Axis, convolution_bound

if TYPE_CHECKING:
    from jaxtyping import Array

Gain = Any  # a scalar in float64
Rule = Callable[[Step, "Values"], Gain]


class InTheWay(Exception):
    """An operation that has no gain; the message says why."""

    def __init__(self, step: Step, why: str) -> None:
        super().__init__(f"{step.name}{step.where()}: {why}")


class TooLarge(InTheWay):
    """A linear operation that is only bounded where the whole map is small."""


class Values:
    """Gains of tracked values and arrays of known ones, while a program is read."""

    def __init__(self, knowns: Sequence[Array]) -> None:
        self.knowns = knowns
        self.gains: dict[int, Gain] = {0: jnp.ones((), jnp.float64)}

    def gain(self, operand: Tracked | Known) -> Gain:
        """The gain of one operand: 0 for a known one, which does not move."""
        return 0.0 if isinstance(operand, Known) else self.gains[operand.index]

    def spread(self, operand: Tracked | Known, step: Step) -> Gain:
        """The gain of one operand of an elementwise step, which may repeat it along axes."""
        if isinstance(operand, Known):
            return 0.0
        ratio = prod(step.outs[0].shape) / max(prod(operand.shape), 1)
        return self.gains[operand.index] * sqrt(ratio)

    def spread_together(self, operands: Sequence[Tracked | Known], step: Step) -> Gain:
        """The same of operands of which each entry of the result takes one."""
        tracked = [each for each in operands if isinstance(each, Tracked)]
        return beside(list({each.index: self.spread(each, step) for each in tracked}.values()))

    def known(self, operand: Tracked | Known) -> Array | None:
        """The array of one operand, or None where it is tracked."""
        return self.knowns[operand.index] if isinstance(operand, Known) else None


def alike(step: Step, values: Values) -> Gain:
    """Entries moved, repeated nowhere, or left out."""
    moved, *others = step.operands
    if not isinstance(moved, Tracked) or any(isinstance(each, Tracked) for each in others):
        raise InTheWay(step, "its place depends on the argument, so it is not linear")
    return values.gain(moved)


def _convert(step: Step, values: Values) -> Gain:
    if not jnp.issubdtype(step.outs[0].dtype, jnp.floating):
        raise InTheWay(step, f"rounds to {jnp.dtype(step.outs[0].dtype)}, which is not linear")
    return values.gain(step.operands[0])


def _sum(step: Step, values: Values) -> Gain:
    return sum(values.spread(each, step) for each in step.operands)


def _beside(step: Step, values: Values) -> Gain:
    """Operands side by side: the root of the sum of squares, safe at 0."""
    return beside([values.gain(each) for each in step.operands])


def beside(gains: Sequence[Gain]) -> Gain:
    """The root of the sum of squares, with gradient 0 where all are 0 and no square too small."""
    if len(gains) < 2:
        return jnp.asarray(sum(gains), jnp.float64)
    return norm(jnp.stack([jnp.asarray(gain, jnp.float64) for gain in gains])[None])[0]


def rounded_up(gain: Gain, num_steps: int) -> Gain:
    """More than what so many steps may have rounded away, a few times each."""
    return gain * (1 + 16 * (num_steps + 1) * float(jnp.finfo(jnp.float64).eps))


def _product(step: Step, values: Values) -> Gain:
    left, right = step.operands
    factor, other = (left, right) if isinstance(left, Known) else (right, left)
    array = values.known(factor)
    if array is None:
        raise InTheWay(step, "both factors depend on the argument, so it is not linear")
    return values.spread(other, step) * _largest(jnp.abs(array))


def _quotient(step: Step, values: Values) -> Gain:
    array = values.known(step.operands[1])
    if array is None:
        raise InTheWay(step, "the divisor depends on the argument, so it is not linear")
    return values.spread(step.operands[0], step) * _largest(jnp.abs(1 / array))


def _largest(array: Array) -> Array:
    return jnp.max(array.astype(jnp.float64), initial=0)


def _select(step: Step, values: Values) -> Gain:
    which, *cases = step.operands
    if isinstance(which, Tracked):
        raise InTheWay(step, "which entry is taken depends on the argument")
    return values.spread_together(cases, step)


def _tracked(step: Step) -> Tracked:
    """The operand that depends on the argument; every step has one."""
    return next(each for each in step.operands if isinstance(each, Tracked))


def _broadcast(step: Step, values: Values) -> Gain:
    return values.spread(_tracked(step), step)


def _reduce_sum(step: Step, values: Values) -> Gain:
    moved = _tracked(step)
    return values.gain(moved) * sqrt(prod(moved.shape[axis] for axis in step.params["axes"]))


def _cumsum(step: Step, values: Values) -> Gain:
    moved = _tracked(step)
    return values.gain(moved) / (2 * sin(pi / (4 * moved.shape[step.params["axis"]] + 2)))


def _places(step: Step, values: Values) -> Array:
    """The indices of a gather or a scatter, which must not depend on the argument."""
    places = values.known(step.operands[1])
    if places is None:
        raise InTheWay(step, "its places depend on the argument, so it is not linear")
    return places


def _gather(step: Step, values: Values) -> Gain:
    moved, places = _tracked(step), _places(step, values)

    def take(array: Array) -> Array:
        return bind(step.equation, [array, places])[0]

    # In double: half precision counts no further than 256.
    like = jax.ShapeDtypeStruct(moved.shape, jnp.float64)
    ones = jnp.ones(step.outs[0].shape, jnp.float64)
    (times,) = jax.linear_transpose(take, like)(ones)
    return values.gain(moved) * jnp.sqrt(_largest(jax.lax.stop_gradient(times)))


def _scatter(step: Step, values: Values) -> Gain:
    """Entries written over others: each of the result comes from one of the two operands."""
    moved, _, updates = step.operands
    _places(step, values)
    return beside([values.gain(moved), values.gain(updates)])


def _scatter_add(step: Step, values: Values) -> Gain:
    moved, _, updates = step.operands
    places = _places(step, values)
    zeros = jnp.zeros(step.outs[0].shape, jnp.float64)
    shape = updates.shape if isinstance(updates, Tracked) else values.knowns[updates.index].shape
    times = add_at(step, zeros, places, jnp.ones(shape, jnp.float64))
    most = jnp.sqrt(_largest(jax.lax.stop_gradient(times)))
    return values.gain(moved) + values.gain(updates) * most


def add_at(step: Step, operand: Any, places: Any, updates: Any) -> Array:
    """A scatter-add in another precision, which its own parameters do not allow."""
    names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    options = {name: step.params[name] for name in names}
    return jax.lax.scatter_add(operand, places, updates, **options)


def _power(step: Step, values: Values) -> Gain:
    if step.params["y"] != 1:
        raise InTheWay(step, "a power of the argument is not linear")
    return values.gain(step.operands[0])


def _dot(step: Step, values: Values) -> Gain:
    left, right = step.operands
    if isinstance(left, Tracked) and isinstance(right, Tracked):
        raise InTheWay(step, "both factors depend on the argument, so it is not linear")
    side = 0 if isinstance(left, Known) else 1
    contract, batch = (axes[side] for axes in step.params["dimension_numbers"])
    matrix = values.known(step.operands[side])
    assert matrix is not None
    free = [axis for axis in range(matrix.ndim) if axis not in (*contract, *batch)]
    shape = [prod(matrix.shape[axis] for axis in axes) for axes in (batch, free, contract)]
    matrix = jnp.transpose(matrix, (*batch, *free, *contract)).reshape(shape)
    return values.gain(step.operands[1 - side]) * _largest(spectral_bound(matrix))


def _convolution(step: Step, values: Values) -> Gain:
    images, kernel = step.operands
    array = values.known(kernel)
    if array is None or not isinstance(images, Tracked):
        if array is None and isinstance(images, Tracked):
            raise InTheWay(step, "image and kernel depend on the argument, so it is not linear")
        raise TooLarge(step, "the argument is its kernel, and it has too many entries to write out")
    params = step.params
    numbers = params["dimension_numbers"]
    out, into, *places = numbers.rhs_spec
    axes = tuple(
        Axis(array.shape[place], *each)
        for place, *each in zip(
            places,
            params["window_strides"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            [before for before, _ in params["padding"]],
            strict=True,
        )
    )
    array = jnp.transpose(array, (*places, into, out))
    # With groups of the batch too each group of the kernel meets images of its own.
    groups = params["feature_group_count"] * params["batch_group_count"]
    return values.gain(images) * convolution_bound(array, axes, groups)


def _window_sum(step: Step, values: Values) -> Gain:
    params = step.params
    axes = tuple(
        Axis(*each)
        for each in zip(
            params["window_dimensions"],
            params["window_strides"],
            params["base_dilation"],
            params["window_dilation"],
            [before for before, _ in params["padding"]],
            strict=True,
        )
        if each != (1, 1, 1, 1, 0)
    )
    ones = jnp.ones((*(axis.taps for axis in axes), 1, 1), jnp.float64)
    return values.gain(step.operands[0]) * convolution_bound(ones, axes, 1)


def _pad(step: Step, values: Values) -> Gain:
    moved, filling = step.operands
    if isinstance(filling, Tracked):
        raise InTheWay(step, "what it fills in depends on the argument")
    return values.gain(moved)


_MOVES = (
    "reshape", "transpose", "squeeze", "rev", "copy", "copy_p", "neg", "slice", "dynamic_slice",
    "split", "unstack", "expand_dims", "optimization_barrier", "sharding_constraint", "name",
    "reduce_precision", "stop_gradient",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVES, alike),
    "convert_element_type": _convert,
    **dict.fromkeys(("add", "sub", "add_any"), _sum),
    **dict.fromkeys(("concatenate", "stack", "dynamic_update_slice"), _beside),
    "mul": _product,
    "div": _quotient,
    "select_n": _select,
    "broadcast_in_dim": _broadcast,
    "reduce_sum": _reduce_sum,
    "cumsum": _cumsum,
    "gather": _gather,
    "scatter": _scatter,
    "scatter-add": _scatter_add,
    "tile": _broadcast,
    "integer_pow": _power,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "reduce_window_sum": _window_sum,
    "pad": _pad,
}
