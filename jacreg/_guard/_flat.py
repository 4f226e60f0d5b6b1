"""Programs inside a program, without the jitted ones in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._interpret import JIT, bind, interpret, interpret_inner, opened
from ._axes import Clauses
from ._body import Body, BodyOf, Shared
from ._conditions import Conditions
from ._masks import picked
from ._repeated import is_thin
from ._values import Mask, Values

Named = dict[Any, Mask]


class Flat:
    """One of them.

    Args:
        inner: a jaxpr, closed or not.
        body_of: reads the equations in it that have programs inside.
    """

    def __init__(self, inner: Any, body_of: BodyOf) -> None:
        program, consts = opened(inner)
        avals = [atom.aval for atom in program.invars]
        self._closed = flattened(program, consts, avals)
        self._body_of = body_of
        self._bodies: dict[Any, Body | None] = {}
        self._found: dict[Any, Conditions] = {}
        self.jaxpr = self._closed.jaxpr

    def conditions(
        self,
        linear: Sequence[bool],
        shared: Shared,
        through: Sequence[Clauses | None],
        asked: Sequence[Clauses | None],
    ) -> Conditions:
        """Those in it, of the flags of its inputs, and clauses of masks that are given of them."""
        key = (tuple(linear), shared and tuple(shared), tuple(through), tuple(asked))
        if key not in self._found:
            self._found[key] = Conditions(self.jaxpr, *key, self._body_once)
        return self._found[key]

    def _body_once(self, equation: Any, linear: Sequence[bool], shared: Shared) -> Body | None:
        key = (id(equation), tuple(linear), shared and tuple(shared))
        if key not in self._bodies:
            self._bodies[key] = self._body_of(equation, linear, shared)
        return self._bodies[key]

    def values(self, found: Conditions, operands: Sequence[Any], masks: dict[Any, Any]) -> Values:
        """Its values, of operands that are None where they are linear."""
        inputs = zip(self.jaxpr.invars, operands, strict=True)
        known = {atom: each for atom, each in inputs if each is not None}
        known.update(zip(self.jaxpr.constvars, self._closed.consts, strict=True))
        return Values(self.jaxpr.eqns, found.linear, known, masks)

    def run(self, found: Conditions, operands: Sequence[Any], masks: dict[Any, Any]) -> list[Any]:
        """Evaluate the changed program."""
        linear = [atom in found.linear for atom in self.jaxpr.invars]
        held = [None if each else o for each, o in zip(linear, operands, strict=True)]
        return found.run(self.values(found, held, masks), operands)


def flattened(program: Any, consts: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the closed program without jitted ones in it, nor those that only select."""
    return jax.make_jaxpr(lambda *args: interpret(program, consts, args, _inlined))(*tangents)


def _inlined(equation: Any, operands: list[Any]) -> Any:
    if equation.primitive.name in JIT or is_thin(equation):
        return interpret_inner(equation, operands, _inlined)
    return bind(equation, operands)


def lifted(
    wanted: Sequence[Any],
    around: Named,
    evaluate: Callable[[Values, dict[Any, Any]], Sequence[Any]],
    clauses: Sequence[Clauses],
    *,
    condition: bool,
) -> list[Mask | None]:
    """Masks of a body as masks of the program around it, all evaluated at once.

    Args:
        wanted: which there are; None where there is none.
        around: the masks of the program around that the body may read, by their names in it.
        evaluate: from the values of the program around and those masks to all that are wanted.
        clauses: of each that there is.
        condition: whether the body adds one.
    """
    read = list(around)
    group = Mask(
        tuple(around[name] for name in read),
        lambda values, parts: evaluate(values, dict(zip(read, parts, strict=True))),
        condition=condition,
    )
    found = iter(picked(group, len(clauses), clauses.__getitem__))
    return [None if mask is None else next(found) for mask in wanted]


def named(kind: str, masks: Sequence[Mask | None]) -> Named:
    """Masks by the names that a body has for them."""
    return {(kind, i): mask for i, mask in enumerate(masks) if mask is not None}
