"""What a training pass is for one example: the statistics of its batch are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from ._dependence import Operand
from ._errors import note_mistake
from ._inputs import as_input, check_inputs, check_no_numbers
from ._interpret import CALLS, JIT, bind, interpret, interpret_inner
from ._rows_seen import as_operand, one_row_each, own_rows, row_factors, rows_seen
from ._source import place

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree

# What makes one number of many: a sum over rows that is one of these is a statistic.
_REDUCTIONS = {
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax",
    "argmin", "dot_general",
}  # fmt: skip
# Reductions too where `jax.vmap` made them of an axis that had a name.
_COLLECTIVES = {"psum", "psum2", "psum_invariant", "pmax", "pmin"}


@dataclass(frozen=True, eq=False)
class _Value:
    """A value of the program at the batch, and of which rows it is a function.

    Attributes:
        held: at the batch.
        rows: its dependence on them; empty for a parameter or a statistic.
    """

    held: Any
    rows: Operand


def hold_statistics(
    fn: Callable[..., Any], xs: Float[Array, "N *in"], *args: PyTree
) -> Callable[..., Any]:
    """Return `fn` as a function of each example alone, with the batch's statistics held.

    Under train-mode BatchNorm row n of `fn(xs)` depends on all rows, through means over the batch.
    The function that is returned takes these as constants, computed at `xs`. At `xs` it has the
    same value, its rows are independent, so every method and every loss has a meaning, and in
    whatever `fn` closes over (the parameters) it is differentiated as a whole, statistics too.

    That last point is what a penalty needs. Running statistics do not follow a step, so that a
    penalty through them falls as the weights in front of a norm shrink, which the loss cannot
    feel: trained long enough, the running variances lag behind and evaluation is ruined. Held, the
    penalty does not change with the scale of these weights, as the loss does not.

    Args:
        fn: `[N, *in] -> [N, *out]`, or a pair of that and an auxiliary output (`has_aux` of
            `linearize`); pytrees too. What it takes over the batch are sums, means, extremes or
            products of matrices.
        xs: `[N, *in]`, the batch whose statistics are held.
        *args: further arguments of `fn`, a time or a label an example: held as they are, so that
            what is returned takes `xs` alone, `linearize(hold_statistics(fn, xs, ts), xs)`.

    Raises:
        TypeError: `fn` is no function, `xs` is not floating point, or what is returned is called
            with more than `xs`.
        ValueError: `fn` mixes its rows in another way (a loop whose body takes a mean, attention
            over the batch); the message names the operation and its line.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> xs = jax.random.normal(jax.random.key(0), (5, 2))
        >>> fn = lambda xs: jnp.tanh(xs / xs.std(axis=0))
        >>> held = jacreg.hold_statistics(fn, xs)
        >>> jacreg.rows_independent(fn, xs), jacreg.rows_independent(held, xs)
        (False, True)
        >>> bool(jnp.all(held(xs) == fn(xs)))
        True
    """
    if not callable(fn):
        raise TypeError(
            f"hold_statistics: fn must be a function of a batch, got {type(fn).__name__}."
        )
    check_no_numbers("hold_statistics", xs)
    xs = jax.tree.map(as_input, xs)
    count = check_inputs(xs, ())
    try:
        closed, shapes = jax.make_jaxpr(lambda xs: fn(xs, *args), return_shape=True)(xs)
    except Exception as error:
        note_mistake(error, xs)
        if not args:
            error.add_note(
                "hold_statistics called fn with xs alone. If it takes a time or a label an example "
                "too, write linearize(hold_statistics(fn, xs, ts), xs)."
            )
        raise
    steps: list[tuple[Any, list[_Value], list[_Value]]] = []

    def apply(equation: Any, operands: list[Any]) -> list[_Value]:
        operands = list(map(_as_value, operands))
        name = equation.primitive.name
        seen = () if name in JIT else rows_seen(equation, [each.rows for each in operands])
        apart = all(map(one_row_each, seen))
        if name in JIT or (name in CALLS and not apart):
            return list(map(_as_value, interpret_inner(equation, operands, apply)))
        found = list(seen)
        if not apart:
            _check_statistic(equation, found)
            found = [Operand(each.shape) for each in found]
        outs = bind(equation, [each.held for each in operands])
        values = [_Value(out, rows) for out, rows in zip(outs, found, strict=True)]
        if any(rows.dependence for rows in found):
            steps.append((equation, operands, values))
        return values

    leaves = [_Value(leaf, own_rows(leaf.shape, count)) for leaf in jax.tree.leaves(xs)]
    results = list(map(_as_value, interpret(closed.jaxpr, closed.consts, leaves, apply)))
    for result in results:
        _check_result(result.rows, count)
    tree = jax.tree.structure(shapes)

    def held(xs: PyTree, *further: Any) -> Any:
        if further:
            raise TypeError(
                f"hold_statistics: what it returns takes xs alone, got {len(further)} arguments "
                "more; they are held too: linearize(hold_statistics(fn, xs, ts), xs)."
            )
        moved = dict(zip(leaves, jax.tree.leaves(xs), strict=True))

        def now(values: list[_Value]) -> list[Any]:
            return [moved.get(value, value.held) for value in values]

        for equation, operands, outs in steps:
            moved.update(zip(outs, bind(equation, now(operands)), strict=True))
        return jax.tree.unflatten(tree, now(results))

    return held


def _as_value(value: Any) -> _Value:
    """A constant or a literal of the program, where it is one."""
    return value if isinstance(value, _Value) else _Value(value, as_operand(value))


def _check_statistic(equation: Any, found: list[Operand]) -> None:
    """Raise unless what mixes rows is a reduction of all of them, or of groups.

    Raises:
        ValueError: it is not.
    """
    name = equation.primitive.name
    every = all(factor.matrix.is_full for rows in found for factor in row_factors(rows))
    axes = equation.params.get("axes", ())
    reduces = name in _REDUCTIONS or (
        name in _COLLECTIVES and all(isinstance(axis, int) for axis in axes)
    )
    if not reduces or (name == "dot_general" and not every):
        raise ValueError(
            f"hold_statistics: {name}{place(equation)} mixes the rows of the batch, and is no sum, "
            "mean, extreme or product over it that could be held. Use the function itself with "
            'CoupledBatch(), or a module with statistics="running".'
        )


def _check_result(rows: Operand, count: int) -> None:
    """Raise where a row of the result is a function of another row."""
    shape = rows.shape
    for factor in row_factors(rows):
        if shape[:1] != (count,):
            continue
        own = row_factors(own_rows(shape, count))[0]
        if factor.axes != own.axes or not own.matrix.contains(factor.matrix):
            raise ValueError(
                "hold_statistics: the function moves the rows of the batch to other places; row n "
                "of its output must depend on row n of xs."
            )
