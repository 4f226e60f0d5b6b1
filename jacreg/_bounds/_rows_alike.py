"""Whether a function of a batch is one function of a row, given to each of any number of rows.

Read from its programs for many rows and for one, beside each other: they must be the same but for
the length of one axis, that of the rows, along which nothing differs that is added, multiplied or
chosen by, and in which no operation goes by places. A slice of a table as long as the batch, a
number of rows that is a factor, rows that are mixed: all of these differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._convolution import as_written
from .._forms import form_of
from .._interpret import CALLS, interpret, interpret_inner
from .._traced import is_traced
from ._control import written_out

_INSIDE = CALLS | {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
# Parameters that the shapes tell.
_SHAPES = frozenset({"shape", "new_sizes", "limit_indices", "slice_sizes", "sizes", "update_jaxpr"})


class _Value(NamedTuple):
    number: int
    shape: tuple[int, ...]


class _Entry(NamedTuple):
    equation: Any
    operands: tuple[Any, ...]  # _Value, or an array
    outs: tuple[_Value, ...]


class _Rows(NamedTuple):
    """Of a value that depends on the batch: which axis has the rows, or the entries of each."""

    axis: int


class _Known(NamedTuple):
    """Of a value that does not: the axes that grow with the batch, along which it is the same."""

    axes: frozenset[int]


_Seen = _Rows | _Known | None  # None: in doubt


def rows_alike(fn: Callable[[Any], Any], xs: jax.ShapeDtypeStruct) -> bool:
    """Whether `fn` does the same to each row of `[N, ...]`, and would to one: False where in doubt.

    Args:
        fn: a function of a batch, to one array.
        xs: the batch's shape and dtype, with N above 1.
    """
    try:
        one = _record(fn, jax.ShapeDtypeStruct((1, *xs.shape[1:]), xs.dtype))
    except Exception:  # it takes that number of rows alone; of any framework
        return False
    many = _record(fn, xs)
    if len(one[0]) != len(many[0]):
        return False
    seen: dict[int, _Seen] = {0: _Rows(0)}
    for single, entry in zip(one[0], many[0], strict=True):
        found = _seen_by(single, entry, seen, xs.shape[0])
        seen.update(zip((out.number for out in entry.outs), found, strict=True))
    return all(isinstance(_of(a, b, seen), _Rows) for a, b in zip(one[1], many[1], strict=True))


def _record(fn: Callable[[Any], Any], struct: jax.ShapeDtypeStruct) -> tuple[list[_Entry], Any]:
    closed = as_written(jax.make_jaxpr(fn)(struct))
    entries: list[_Entry] = []
    count = 1

    def apply(equation: Any, operands: Sequence[Any]) -> list[Any]:
        nonlocal count
        if equation.primitive.name in _INSIDE:
            return interpret_inner(equation, operands, apply)
        if (found := written_out(equation, operands, apply)) is not None:
            return found
        outs = []
        for var in equation.outvars:
            outs.append(_Value(count, tuple(getattr(var.aval, "shape", ()))))
            count += 1
        entries.append(_Entry(equation, tuple(operands), tuple(outs)))
        return outs

    outputs = interpret(closed.jaxpr, closed.consts, [_Value(0, tuple(struct.shape))], apply)
    return entries, outputs


def _of(single: Any, operand: Any, seen: dict[int, _Seen]) -> _Seen:
    """What is known of an operand; an array must be the same in both programs."""
    if isinstance(single, _Value) and isinstance(operand, _Value):
        return seen[operand.number] if single.number == operand.number else None
    if isinstance(single, _Value) or isinstance(operand, _Value):
        return None
    if single is operand:
        return _Known(frozenset())
    if is_traced(single) or is_traced(operand) or np.shape(single) != np.shape(operand):
        return None
    if jnp.issubdtype(jnp.result_type(single), jax.dtypes.extended):
        return None
    same = np.array_equal(np.asarray(single), np.asarray(operand))
    return _Known(frozenset()) if same else None


def _seen_by(single: _Entry, entry: _Entry, seen: dict[int, _Seen], count: Any) -> list[_Seen]:
    """What is known of each output of an equation."""
    doubt: list[_Seen] = [None] * len(entry.outs)
    if single.equation.primitive.name != entry.equation.primitive.name:
        return doubt
    if len(single.operands) != len(entry.operands) or len(single.outs) != len(entry.outs):
        return doubt
    operands = [_of(a, b, seen) for a, b in zip(single.operands, entry.operands, strict=True)]
    if None in operands or not _same_options(single.equation.params, entry.equation.params):
        return doubt
    rows = any(isinstance(each, _Rows) for each in operands)
    found: list[_Seen] = []
    for short, long in zip(single.outs, entry.outs, strict=True):
        axes = _longer(short.shape, long.shape, count)
        if axes is None or (rows and len(axes) != 1):
            return doubt
        if not (_keeps if rows else _repeats)(entry, operands, long.shape, axes):
            return doubt
        found.append(_Rows(*axes) if rows else _Known(axes))
    return found


def _same_options(single: dict[str, Any], many: dict[str, Any]) -> bool:
    return single.keys() == many.keys() and all(
        single[name] is value or repr(single[name]) == repr(value)
        for name, value in many.items()
        if name not in _SHAPES
    )


def _longer(short: tuple[int, ...], long: tuple[int, ...], count: Any) -> frozenset[int] | None:
    """The axes that are longer for many rows than for one, by their number."""
    if len(short) != len(long):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(short, long, strict=True)) if a != b]
    fitting = all(long[axis] == count * short[axis] for axis in axes)
    return frozenset(axes) if fitting else None


def _repeats(
    entry: _Entry, operands: Sequence[Any], shape: tuple[int, ...], axes: frozenset[int]
) -> bool:
    """Whether a value that does not depend on the batch is the same along such axes."""
    if not axes:
        return not any(each.axes for each in operands)
    if entry.equation.primitive.name == "broadcast_in_dim":
        places = entry.equation.params["broadcast_dimensions"]
        before, own = _shape(entry.operands[0]), operands[0].axes
        inside = [places.index(axis) for axis in axes if axis in places]
        return all(before[place] == 1 or place in own for place in inside)
    if not operands or len(axes) > 1 or any(len(each.axes) > 1 for each in operands):
        return False
    # What does the same to each of equal rows makes equal rows.
    as_rows = [_Rows(*each.axes) if each.axes else each for each in operands]
    return _keeps(entry, as_rows, shape, axes)


def _shape(operand: Any) -> tuple[int, ...]:
    return operand.shape if isinstance(operand, _Value) else np.shape(operand)


def _along(entry: _Entry, operands: Sequence[Any], axis: int) -> bool:
    """Whether each operand has its rows there, or is the same along there."""
    for operand, each in zip(entry.operands, operands, strict=True):
        shape = _shape(operand)
        single = each == _Known(frozenset()) and (not shape or shape[axis] == 1)
        if not single and each not in (_Rows(axis), _Known(frozenset({axis}))):
            return False
    return True


def _keeps(
    entry: _Entry, operands: Sequence[Any], shape: tuple[int, ...], axes: frozenset[int]
) -> bool:
    """Whether an operation does the same to each row, with the rows of its output in `axes`."""
    (axis,), name, params = axes, entry.equation.primitive.name, entry.equation.params
    if form_of(entry.equation).kind == "elementwise" or name in _ENTRIES:
        return _along(entry, operands, axis)
    if name == "concatenate":
        return params["dimension"] != axis and _along(entry, operands, axis)
    if name == "stack":
        new = params["axis"]
        return new != axis and _along(entry, operands, axis - (new < axis))
    if name == "dot_general":
        return _product_keeps(operands, params["dimension_numbers"])
    # Of all others the first operand alone depends on the batch.
    first, *others = operands
    if not isinstance(first, _Rows) or any(each != _Known(frozenset()) for each in others):
        return False
    if name in _ALONG:
        sides = params[_ALONG[name]]
        return first.axis not in (sides if isinstance(sides, tuple) else (sides,))
    if name == "reshape":
        before = prod(_shape(entry.operands[0])[: first.axis])
        return before == prod(shape[:axis]) and params["dimensions"] is None
    if name == "pad":
        return params["padding_config"][axis] == (0, 0, 0)
    if name == "conv_general_dilated":
        batch = params["dimension_numbers"].lhs_spec[0]
        return first.axis == batch and params["batch_group_count"] == 1
    if name.startswith("reduce_window_"):
        alone = all(params[each][axis] == 1 for each in _WINDOW)
        return alone and params["padding"][axis] == (0, 0)
    if name not in _WHOLE or shape[axis] != _shape(entry.operands[0])[first.axis]:
        return False
    if name == "gather":
        numbers = params["dimension_numbers"]
        chosen = (numbers.start_index_map, numbers.collapsed_slice_dims)
        return not any(first.axis in each for each in (*chosen, numbers.operand_batching_dims))
    return True


_ENTRIES = frozenset({"sign", "floor", "ceil", "round", "eq", "ne", "lt", "le", "gt", "ge"})
_ENTRIES |= {"stop_gradient"}
_ALONG = {
    "split": "axis", "cumsum": "axis", "cumprod": "axis", "cummax": "axis", "cummin": "axis",
    "sort": "dimension", "rev": "dimensions",
}  # fmt: skip
_WINDOW = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
# All rows are taken, for the output has as many.
_WHOLE = frozenset(
    {
        "transpose", "squeeze", "broadcast_in_dim", "slice", "dynamic_slice", "reduce_sum",
        "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin", "gather",
    }
)  # fmt: skip


def _product_keeps(operands: Sequence[Any], numbers: Any) -> bool:
    """Rows in an axis of one operand that is not summed, or beside each other in both."""
    contracted, beside = numbers
    for side, each in enumerate(operands):
        other = operands[1 - side]
        if not isinstance(each, _Rows):
            continue
        if each.axis in contracted[side]:
            return False
        if each.axis in beside[side]:
            axis = beside[1 - side][tuple(beside[side]).index(each.axis)]
            if other not in (_Rows(axis), _Known(frozenset({axis}))):
                return False
        elif other != _Known(frozenset()):
            return False
    return True
