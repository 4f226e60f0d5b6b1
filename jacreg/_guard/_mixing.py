"""Masks through operations that add up entries along some axes and leave others as they are.

An operand has an effect where any output that sees it has one, and an output may differ from zero
where any operand does that it sees. Along an axis that is mixed everything is seen, as a rule, and
something is then true everywhere: a mask is kept where a clause of it changes along none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from .._sharding import match_sharding
from ._axes import Link, Links, clauses_before, clauses_behind, links, pairs
from ._body import Masks
from ._masks import both, either
from ._values import Mask


def behind_mixed(equation: Any, linear: Sequence[bool], masks: Masks) -> Masks:
    """Where the outputs of an operation may differ from zero, of masks of its linear operands."""
    parts: list[list[Mask | None]] = [[] for _ in equation.outvars]
    left = iter(masks)
    for place, is_linear in enumerate(linear):
        if not is_linear:
            continue
        mask = next(left)
        ways = _ways(equation, place, [mask])
        for part, out, way in zip(parts, equation.outvars, ways, strict=True):
            if way is None or way:
                part.append(_mixed(mask, way, out.aval, backward=False))
    return [_any(part) for part in parts]


def before_mixed(equation: Any, place: int, masks: Masks) -> Mask | None:
    """Where an operand has an effect, of masks of the outputs."""
    atom, ways = equation.invars[place], _ways(equation, place, masks)
    return _any([
        _mixed(mask, way, atom.aval, backward=True)
        for mask, out, way in zip(masks, equation.outvars, ways, strict=True)
        if way is None or way
    ])  # fmt: skip


def met_in_sum(
    equation: Any, place: int, through: Mask | None, asked: Mask | None, *, shared: bool
) -> Mask | None:
    """Where a factor of a contraction stands in a sum that is asked for, beside what is not zero.

    Args:
        equation: the contraction.
        place: of the factor.
        through: where the other operand may differ from zero.
        asked: where the output has an effect.
        shared: whether the factor is one for all examples, unless it has an axis of them.
    """
    summed, batch = equation.params["dimension_numbers"]
    if shared and not batch[0]:
        # A matrix of weights.
        return None
    factor = equation.invars[place]
    if asked is not None:
        asked = before_mixed(equation, place, [asked])
    if through is not None:
        axes = [(*s, *b) for s, b in zip(summed, batch, strict=True)]
        beside = [
            Link((theirs,), (own,), True)
            for theirs, own in zip(axes[1 - place], axes[place], strict=True)
        ]
        through = _mixed(through, beside, factor.aval, backward=False)
    return both(asked, through)


def _any(masks: Masks) -> Mask | None:
    found = [mask for mask in masks if mask is not None]
    return either(found) if found and len(found) == len(masks) else None


def _ways(equation: Any, place: int, masks: Masks) -> Sequence[Links | None]:
    """How each output sees an operand, read where a mask might go on by it."""
    known = links(equation, place) if all(mask and mask.clauses for mask in masks) else None
    return [None] * len(equation.outvars) if known is None else known


def _mixed(mask: Mask | None, known: Links | None, end: Any, *, backward: bool) -> Mask | None:
    """That of what an operation mixes, along the axes that it does not: where any entry is.

    Args:
        mask: of its operand, backward of its output.
        known: how the output sees the operand, if that is known.
        end: of the type that it is to be of.
        backward: from the output to the operand.

    Returns:
        None where no clause is left.
    """
    if mask is None or known is None:
        return None
    clauses = (clauses_before if backward else clauses_behind)(mask.clauses, known, exact=True)
    if not clauses:
        return None
    ways = pairs(known)
    ways = {out: own for own, out in ways.items()} if backward else ways

    def evaluate(_: Any, parts: list[Any]) -> Any:
        found = any_along(parts[0], ways, len(end.shape))
        return match_sharding(jnp.broadcast_to(found, end.shape), end)

    return Mask((mask,), evaluate, along=lambda: clauses)


def any_along(mask: Any, ways: dict[int, int], rank: int) -> Any:
    """Where any entry is, of those that differ in other axes than `ways` has.

    Args:
        mask: booleans.
        ways: where an axis of it goes to.
        rank: of the result; the axes to which none goes have one entry.
    """
    # Those that are left stand in the order of the start, and go to that of the end.
    kept = [ways[axis] for axis in sorted(ways)]
    order = sorted(range(len(kept)), key=kept.__getitem__)
    rest = tuple(axis for axis in range(jnp.ndim(mask)) if axis not in ways)
    missing = [axis for axis in range(rank) if axis not in kept]
    return jnp.expand_dims(jnp.transpose(jnp.any(mask, axis=rest), order), missing)
