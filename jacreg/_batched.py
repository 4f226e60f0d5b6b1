"""Which operations of a linear program `jax.vmap` has no rule for, told before it is asked.

Plain ones have one for every axis. The others are tried on shapes alone: a primitive of one's own
may have none, or one for the first axis only; some of JAX's have one for a few operands
(`jax.lax.ragged_dot`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex

from ._interpret import CALLS, bind, contains, inner_program, on_tangents, opened
from ._transposable import PLAIN

_PROGRAMS = frozenset({"scan", "while", "cond"})


def first_unbatched(jaxpr: Any, along: list[bool] | None = None) -> Any:
    """The first equation on tangents that several of them cannot pass side by side, else None.

    Args:
        jaxpr: linear in its inputs, or in some of them.
        along: which inputs are tangents; None means all.
    """
    for equation, places in on_tangents(jaxpr, along):
        if equation.primitive.name in CALLS:
            found = first_unbatched(opened(inner_program(equation))[0], places)
            if found is not None:
                return found
        elif _is_unknown(equation) and not _is_batched(equation, places):
            return equation
    return None


def _is_unknown(equation: Any) -> bool:
    name = equation.primitive.name
    if name in _PROGRAMS:
        inner = jex.jaxprs_in_params(equation.params)
        return any(contains(each, _is_unknown) for each in inner)
    return name not in PLAIN and name not in CALLS


def _is_batched(equation: Any, places: Sequence[bool]) -> bool:
    """Whether it takes a new axis in front of its operands, and behind their first one."""
    avals = [atom.aval for atom in equation.invars]
    for axis in (0, 1):
        axes = [min(axis, len(aval.shape)) if moves else None
                for aval, moves in zip(avals, places, strict=True)]  # fmt: skip
        structs = [
            jax.ShapeDtypeStruct(
                aval.shape if at is None else (*aval.shape[:at], 2, *aval.shape[at:]), aval.dtype
            )
            for aval, at in zip(avals, axes, strict=True)
        ]
        try:
            jax.eval_shape(jax.vmap(lambda *each: bind(equation, each), axes), *structs)
        except NotImplementedError:
            return False
        except Exception:
            # Out of its place it may not be traced at all: left to what runs it.
            return True
    return True
