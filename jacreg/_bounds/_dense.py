"""A linear map written out as a matrix, in double precision."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._interpret import bind
from ._linear import add_at
from ._program import Program, Step, Tracked
from ._verified import diagonal

if TYPE_CHECKING:
    from jaxtyping import Array, Float

MOST_ENTRIES = 4096  # a side


def fits(program: Program) -> bool:
    """Whether both sides are small enough to write the map out."""
    outs = sum(prod(each.shape) for each in program.outputs if isinstance(each, Tracked))
    return max(prod(program.argument.shape), outs) <= MOST_ENTRIES


def matrix_of(program: Program, knowns: Sequence[Array]) -> Float[Array, "in out"]:
    """The transposed matrix of a program whose steps all have a row in the linear table."""
    size = prod(program.argument.shape)

    def column(x: Array) -> Array:
        values: dict[int, Any] = {0: x.reshape(program.argument.shape)}
        for step in program.steps:
            outs = _linear_part(step, values, knowns)
            values.update(zip((out.index for out in step.outs), outs, strict=True))
        flat = [
            values[each.index].reshape(-1) for each in program.outputs if isinstance(each, Tracked)
        ]
        return jnp.concatenate(flat) if flat else jnp.zeros(0, x.dtype)

    return jax.vmap(column)(diagonal(size).astype(jnp.float64))


_WITH_OFFSET = frozenset({"add", "sub", "add_any", "concatenate", "stack", "select_n", "pad"})
_WITH_OFFSET |= {"dynamic_update_slice", "scatter", "scatter-add"}


def _linear_part(step: Step, values: dict[int, Any], knowns: Sequence[Array]) -> list[Any]:
    """One operation without its constant part, on operands in double precision."""
    operands = []
    for place, each in enumerate(step.operands):
        if isinstance(each, Tracked):
            operands.append(values[each.index])
            continue
        array = jnp.asarray(knowns[each.index])
        if jnp.issubdtype(array.dtype, jnp.floating):
            array = jax.lax.convert_element_type(array, jnp.float64)
        moved = step.name in _WITH_OFFSET and not (step.name == "select_n" and place == 0)
        if moved and jnp.issubdtype(array.dtype, jnp.floating):
            array = jnp.zeros_like(array)
        operands.append(array)
    changed: dict[str, Any] = {}
    if step.params.get("preferred_element_type") is not None:
        changed["preferred_element_type"] = jnp.dtype(jnp.float64)
    if step.name == "convert_element_type":
        changed["new_dtype"] = jnp.dtype(jnp.float64)
    if step.name == "reduce_precision":
        return operands
    if step.name == "scatter-add":
        return [add_at(step, *operands)]
    if "precision" in step.params:
        changed["precision"] = (jax.lax.Precision.HIGHEST,) * 2
    return bind(step.equation, operands, **changed)
