"""What the outputs of a program see of x, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._dependence import (
    Factor,
    LengthError,
    Operand,
    Pattern,
    is_stand_in,
    read_equation,
    read_program,
    structural_value,
    whole,
    with_own_length,
)
from .._dependence._boolean import Boolean
from .._dependence._pattern import join, widen, with_axes
from .._forms import form_of
from .._interpret import inner_program, opened
from ._colors import Seen, bounded, union

# What an array sees along each axis of x; None where it does not depend on x.
Sight = tuple[Seen, ...] | None


def reach(equation: Any, given: Sequence[Sight], values: Sequence[Any]) -> list[tuple[Seen, ...]]:
    """What each output of an equation sees through those operands that see something.

    Args:
        equation: any.
        given: for each operand what it sees.
        values: of the operands, whose indices and masks count where they are known.
    """
    known = next(each for each in given if each is not None)
    try:
        source = with_own_length(equation)
    except LengthError:
        return _everything(equation.outvars, given)
    outs = read_equation(source, [
        operand_of(atom.aval, sight, value)
        for atom, sight, value in zip(source.invars, given, values, strict=True)
    ])  # fmt: skip
    return [_seen(out, known) for out in outs]


def seen_by(program: Any, given: Sequence[Sight]) -> list[Sight]:
    """What each output sees, from what each input does; None where nothing is seen.

    Args:
        program: a jaxpr, closed or not.
        given: for each input.
    """
    known = next((each for each in given if each is not None), None)
    jaxpr, consts = opened(program)
    if known is None:
        return [None] * len(jaxpr.outvars)
    try:
        source = with_own_length(jaxpr)
    except LengthError:
        return list(_everything(jaxpr.outvars, given))
    operands = [
        operand_of(variable.aval, sight, None)
        for variable, sight in zip(source.invars, given, strict=True)
    ]
    outs = read_program(source, consts, operands)
    return [_seen(out, known) if out.dependence else None for out in outs]


def _everything(outvars: Sequence[Any], given: Sequence[Sight]) -> list[tuple[Seen, ...]]:
    """What any operand sees, for every entry of each output."""
    by_axis = zip(*(each for each in given if each is not None), strict=True)
    lines = [np.any([own.reshape(-1, own.shape[-1]).any(axis=0) for own in axis], axis=0)
             for axis in by_axis]  # fmt: skip
    return [tuple(line.reshape((1,) * len(out.aval.shape) + line.shape) for line in lines)
            for out in outvars]  # fmt: skip


def operand_of(aval: Any, sight: Sight, value: Any) -> Operand:
    """What is known of an array, each axis of x a leaf of its own."""
    shape = tuple(aval.shape)
    if sight is None:
        return Operand(shape, value=structural_value(value))
    return Operand(shape, {
        leaf: (_pattern(shape, seen),) for leaf, seen in enumerate(sight) if seen.any()
    })  # fmt: skip


def _pattern(shape: tuple[int, ...], seen: Seen) -> Pattern:
    entries = seen.shape[-1]
    axes = tuple(axis for axis, size in enumerate(seen.shape[:-1]) if size > 1)
    matrix = Boolean.of_array(seen.reshape(-1, entries))
    return Pattern(shape, (entries,), (Factor(axes, (0,), matrix),))


def _seen(operand: Operand, like: tuple[Seen, ...]) -> tuple[Seen, ...]:
    found = []
    for leaf, each in enumerate(like):
        terms = operand.dependence.get(leaf)
        if terms is None:
            found.append(np.zeros((1,) * len(operand.shape) + each.shape[-1:], bool))
            continue
        pattern = whole(terms)
        for axis, size in enumerate(operand.shape):
            if is_stand_in([size]):
                pattern = widen(pattern, axis, size)
        # Factors without inputs say which entries see nothing.
        factor = join(pattern.factors)
        axes = tuple(sorted(factor.axes))
        dims = [n if axis in axes else 1 for axis, n in enumerate(operand.shape)]
        matrix = with_axes(operand.shape, factor, axes).matrix
        found.append(bounded(matrix.toarray().reshape((*dims, each.shape[-1]))))
    return tuple(found)


def settled_loop(
    body: Any, given: Sequence[Sight], start: int, stop: int
) -> tuple[list[Sight], list[Sight]]:
    """What the carries `given[start:stop]` see after any number of steps, and each step's outputs.

    Args:
        body: the loop's program, `(consts, carries, slices) -> (carries, outputs)`.
        given: what its inputs see at first.
        start, stop: which of them are carries.
    """
    carry = list(given[start:stop])
    while True:
        outs = seen_by(body, [*given[:start], *carry, *given[stop:]])
        after = [_either(a, b) for a, b in zip(carry, outs, strict=False)]
        if all(_same(a, b) for a, b in zip(carry, after, strict=True)):
            return carry, outs[len(carry) :]
        carry = after


def _either(first: Sight, second: Sight) -> Sight:
    known = [each for each in (first, second) if each is not None]
    return union(known) if known else None


def _same(first: Sight, second: Sight) -> bool:
    if first is None or second is None:
        return first is second
    return all(a.shape == b.shape and bool((a == b).all())
               for a, b in zip(first, second, strict=True))  # fmt: skip


def without_first(seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """What the slices along the first axis see, all together."""
    return tuple(each.any(axis=0) for each in seen)


def with_first(seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """The same for arrays stacked along a new first axis."""
    return tuple(np.expand_dims(each, 0) for each in seen)


def is_entrywise(program: Any, shape: tuple[int, ...]) -> bool:
    """Whether a program is elementwise: every array in it has the one shape, or is a scalar."""
    jaxpr, _ = opened(program)
    atoms = [*jaxpr.invars, *(out for equation in jaxpr.eqns for out in equation.outvars)]
    return all(atom.aval.shape in (shape, ()) for atom in atoms) and all(
        _is_entrywise(equation, shape) for equation in jaxpr.eqns
    )


def _is_entrywise(equation: Any, shape: tuple[int, ...]) -> bool:
    kind, name = form_of(equation).kind, equation.primitive.name
    if kind == "call":
        return is_entrywise(inner_program(equation), shape)
    if kind == "constant":
        return name not in ("argmax", "argmin", "iota")
    from_scalar = name == "broadcast_in_dim" and equation.invars[0].aval.shape == ()
    return kind == "elementwise" or from_scalar
