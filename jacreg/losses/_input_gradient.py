"""The gradient, in the input, of one number an example."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from .._linearize import linearize
from .._structure import accumulate_dtype, example_sum
from ._checks import check_function, check_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

Reduction = Literal["sum", "mean"]
_REDUCTIONS = ("sum", "mean")


def input_gradient(
    who: str,
    fn: Callable[..., Any],
    xs: PyTree,
    args: tuple[PyTree, ...],
    reduction: Reduction | None = None,
    *,
    may_reduce: bool = False,
) -> tuple[PyTree, Any]:
    """The gradient, at least in float32, and the dtype of the function's values.

    Args:
        who: the loss, for messages.
        fn: of the batch and `args`.
        xs: the batch.
        args: further ones.
        reduction: over each example's outputs.
        may_reduce: whether the loss takes a reduction, so that messages may say so.
    """
    check_function(who, "the first argument", fn)
    if reduction is not None and reduction not in _REDUCTIONS:
        raise ValueError(
            f"{who}: reduction must be one of {_REDUCTIONS}, over each example's outputs, or None "
            f"for one number an example; got {reduction!r}."
        )

    def reduced(xs: PyTree, *args: PyTree) -> Float[Array, " N"]:
        num_examples = jax.tree.leaves(xs)[0].shape[0]
        return _one_number(who, fn(xs, *args), num_examples, reduction, may_reduce)

    lin = linearize(reduced, xs, *args, mode="reverse")
    gradient = lin.vjp(jnp.ones_like(lin.value))
    wide = jax.tree.map(lambda g: g.astype(accumulate_dtype(g.dtype)), gradient)
    return wide, lin.value.dtype


def _one_number(
    who: str, ys: PyTree, num_examples: int, reduction: Reduction | None, may_reduce: bool
) -> Array:
    shapes = [jnp.shape(y) for y in jax.tree.leaves(ys)]
    if reduction is not None:
        total = example_sum(check_rows(who, "the function", ys, num_examples))
        size = sum(prod(shape[1:]) for shape in shapes)
        return total / max(size, 1) if reduction == "mean" else total
    if shapes != [(num_examples,)]:
        raise ValueError(
            f"{who}: the function must return one number an example, shape "
            f"({num_examples},), got {shapes[0] if len(shapes) == 1 else shapes}. "
            + _how_to_one_number(shapes, num_examples, may_reduce)
        )
    return jax.tree.leaves(ys)[0]


def _how_to_one_number(shapes: list[tuple[int, ...]], num_examples: int, may_reduce: bool) -> str:
    sizes = [prod(shape[1:]) for shape in shapes if shape[:1] == (num_examples,)]
    if len(sizes) == len(shapes) and sum(sizes) > 1:
        if not may_reduce:
            return "Sum over the numbers of each example, of patches say, in the function."
        return (
            'Of several numbers an example, a critic of patches say, pass reduction="sum" or '
            'reduction="mean", or penalise all of them with frobenius_squared.'
        )
    return "Squeeze a trailing axis of length 1; return losses before their mean."
