"""A parameter on its way to the product that it enters, and what it enters as."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._interpret import bind

# Entry for entry the same array: only places change, or the precision.
_RESHAPES = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze"})
_REARRANGEMENTS = _RESHAPES | {"neg", "rev", "transpose"}


class Weight(NamedTuple):
    """A parameter leaf, or a box of it, with its entries in another order and scaled.

    Attributes:
        array: its value.
        leaf: which leaf.
        box: `(starts, limits)` of the slice of the leaf that it is; None is all of it.
        view: what was done to the order of the entries since.
        scale: what the entries were multiplied with; None is one.
    """

    array: Any
    leaf: int
    box: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    view: tuple[Any, ...] = ()
    scale: Any = None


def follow(equation: Any, operands: list[Any]) -> Weight | None:
    """Return the weight that an equation makes of one, or None where it is no longer one."""
    name = equation.primitive.name
    found = _scaled(equation, operands) if name in ("mul", "div") else None
    if found is not None or len(operands) != 1:
        return found
    (weight,) = operands
    out = equation.outvars[0].aval
    if not isinstance(weight, Weight) or not jnp.issubdtype(out.dtype, jnp.floating):
        return None
    if name == "slice" and not weight.view and weight.box is None:
        if any(step != 1 for step in equation.params["strides"] or ()):
            return None
        box = (equation.params["start_indices"], equation.params["limit_indices"])
        return weight._replace(array=bind(equation, [weight.array])[0], box=box)
    if name not in _REARRANGEMENTS or out.size != equation.invars[0].aval.size:
        return None
    if equation.params.get("dimensions") is not None and name == "reshape":
        return None
    (array,) = bind(equation, [weight.array])
    if name == "neg":
        scale = -1.0 if weight.scale is None else -weight.scale
        return weight._replace(array=array, scale=scale)
    return weight._replace(array=array, view=(*weight.view, *_step(name, equation)))


def _step(name: str, equation: Any) -> tuple[Any, ...]:
    """What the entries' order was changed by; reshapings by any name are one."""
    if name == "transpose":
        return (("transpose", equation.params["permutation"]),)
    if name == "rev":
        return (("rev", equation.params["dimensions"]),)
    shape = equation.outvars[0].aval.shape
    return (("reshape", shape),) if shape != equation.invars[0].aval.shape else ()


def _scaled(equation: Any, operands: list[Any]) -> Weight | None:
    """A weight times, or divided by, one number."""
    left, right = operands
    if not isinstance(left, Weight):
        left, right = right, left
        if equation.primitive.name == "div":
            return None
    shape = equation.outvars[0].aval.shape
    if not isinstance(left, Weight) or isinstance(right, Weight) or jnp.size(right) != 1:
        return None
    if left.array.shape != shape:
        return None
    (array,) = bind(equation, [o.array if isinstance(o, Weight) else o for o in operands])
    number = jnp.reshape(jnp.asarray(right), ())
    number = 1 / number if equation.primitive.name == "div" else number
    return left._replace(array=array, scale=number if left.scale is None else left.scale * number)


def overlap(one: Any, other: Any) -> bool:
    """Whether two boxes of a leaf have an entry in common."""
    if one is None or other is None:
        return True
    pairs = zip(*one, *other, strict=True)
    return all(max(a, c) < min(b, d) for a, b, c, d in pairs)
