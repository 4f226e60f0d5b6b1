"""Conditions that are repeated, kept as they were before.

`jnp.where(valid[:, None], a, b)` repeats one boolean an example along the features. What JAX keeps
for the derivative is the repeated array, in which nobody sees any more that it holds for rows as
a whole. Here the selection repeats it itself, and what is kept is one boolean an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._interpret import (
    HELD,
    JIT,
    bind,
    contains,
    inner_program,
    interpret,
    interpret_inner,
    opened,
)
from ._axes import is_long

# What makes conditions of conditions, entry by entry or by moving them.
_MAKES = frozenset(
    {"and", "or", "xor", "not", "convert_element_type", "copy", "reshape", "squeeze", "expand_dims",
     "transpose", "broadcast_in_dim"}
)  # fmt: skip
# Some write down by themselves that an axis of one entry is repeated.
_REPEATS = frozenset({"broadcast_in_dim", "and", "or", "xor"})
_THIN = _MAKES | {"select_n"}


def with_own_conditions(closed: Any) -> Any:
    """Return a closed program that keeps conditions as they were before they are repeated.

    Itself where there is none.
    """
    if not _has_some(closed.jaxpr):
        return closed
    avals = [atom.aval for atom in closed.jaxpr.invars]
    return jax.make_jaxpr(lambda *args: _run(closed.jaxpr, closed.consts, args))(*avals)


def is_thin(equation: Any) -> bool:
    """Whether it calls a program that only selects: `jnp.where`, or what is made here."""
    if equation.primitive.name not in HELD:
        return False
    program, _ = opened(inner_program(equation))
    return all(each.primitive.name in _THIN for each in program.eqns)


def _has_some(jaxpr: Any) -> bool:
    return contains(jaxpr, _repeats) and contains(
        jaxpr, lambda equation: equation.primitive.name == "select_n"
    )


def _repeats(equation: Any) -> bool:
    """Whether it makes a condition larger."""
    if equation.primitive.name not in _REPEATS:
        return False
    after = equation.outvars[0].aval
    if getattr(after.dtype, "kind", None) not in ("b", "i", "u"):
        return False
    return any(_long(atom.aval) != _long(after) for atom in equation.invars)


def _long(aval: Any) -> list[Any]:
    return [size for size in aval.shape if is_long(size)]


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    made: dict[int, tuple[Any, list[Any], Any]] = {}

    def apply(equation: Any, operands: list[Any]) -> Sequence[Any]:
        name = equation.primitive.name
        if name in JIT and is_thin(equation):
            return interpret_inner(equation, operands, apply)
        if name == "select_n":
            return _selected(equation, operands, made)
        outs = bind(equation, operands, **_bodies(equation))
        if name in _MAKES:
            # The output is held, or another one might get its number.
            made[id(outs[0])] = equation, operands, outs[0]
        return outs

    return interpret(jaxpr, consts, args, apply)


def _bodies(equation: Any) -> dict[str, Any]:
    """Parameters with the programs that it runs as a whole, where a condition is in one."""
    name = equation.primitive.name
    if name == "cond":
        found = [_body(each) for each in equation.params["branches"]]
        return {"branches": tuple(found)} if None not in found else {}
    # The body of a checkpoint stands in the derivative as it is.
    if name not in (*JIT, "scan"):
        return {}
    found = _body(equation.params["jaxpr"])
    return {} if found is None else {"jaxpr": found}


def _body(closed: Any) -> Any | None:
    """The same program where it has no condition, None where it cannot be changed."""
    found = with_own_conditions(closed)
    return None if found.consts and found is not closed else found


def _selected(equation: Any, operands: list[Any], made: dict[int, Any]) -> Sequence[Any]:
    which, *cases = operands
    leaves: dict[int, Any] = {}

    def look(value: Any) -> Callable[[dict[int, Any]], Any] | None:
        """How it is made of `leaves`, where something in it is repeated."""
        source, given, _ = made.get(id(value), (None, (), None))
        if source is None:
            return None
        parts = [look(each) for each in given]
        if not any(parts) and not _repeats(source):
            return None
        leaves.update((id(e), e) for e, part in zip(given, parts, strict=True) if part is None)
        return lambda known: bind(
            source,
            [known[id(e)] if part is None else part(known)
             for e, part in zip(given, parts, strict=True)],
        )[0]  # fmt: skip

    make = look(which)
    if make is None:
        return bind(equation, operands)

    def select(values: list[Any], cases: list[Any]) -> Sequence[Any]:
        return bind(equation, [make(dict(zip(leaves, values, strict=True))), *cases])

    return jax.checkpoint(select, prevent_cse=False)(list(leaves.values()), cases)
