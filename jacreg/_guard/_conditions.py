"""Which factors of a linear program a condition leaves out, and where."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.extend.core as jex
import jax.numpy as jnp

from .._interpret import bind
from ._axes import Clauses
from ._body import Body, BodyOf, Masks
from ._masks import (
    along,
    back,
    both,
    chosen,
    either,
    gathered,
    given,
    nowhere,
    spread,
)
from ._mixing import before_mixed, behind_mixed, met_in_sum
from ._predicates import clauses_of
from ._values import Mask, Name, Values, names

# Entry by entry; a mask of what enters is one of what leaves, and back.
_SAME = frozenset({"convert_element_type", "copy", "copy_p", "neg"})
_SUMS = frozenset({"add", "add_any", "sub"})
_PRODUCTS = frozenset({"mul", "div"})
# Entries moved, repeated, left out or added up: a mask is taken along as a count of its entries.
_MOVES = frozenset(
    {"rev", "transpose", "reshape", "squeeze", "expand_dims", "slice", "broadcast_in_dim",
     "reduce_sum", "cumsum", "concatenate", "pad", "split", "stack", "unstack", "tile",
     "gather", "dynamic_slice"}
)  # fmt: skip
# Of these nothing is known as one equation.
_UNREAD = frozenset({"while", "cond"})


class Conditions:
    """Those of one program without calls of others, whose bodies `body_of` reads.

    Args:
        jaxpr: the program.
        linear: of each input, whether it is linear.
        shared: of each input, whether it is the same for all examples, as weights are; None in a
            program that has an axis of examples.
        through: of each input, the clauses of a mask of where it may differ from zero; None where
            none is given.
        asked: the same of each output and where it has an effect.
        body_of: reads an equation with programs inside; None where it is not known.
    """

    def __init__(
        self,
        jaxpr: Any,
        linear: Sequence[bool],
        shared: Sequence[bool] | None,
        through: Sequence[Clauses | None],
        asked: Sequence[Clauses | None],
        body_of: BodyOf,
    ) -> None:
        self.jaxpr = jaxpr
        self.linear = {atom for atom, each in zip(jaxpr.invars, linear, strict=True) if each}
        self._whole = shared is None
        self._shared = {a for a, each in zip(jaxpr.invars, shared or (), strict=False) if each}
        self._made_by = {atom: equation for equation in jaxpr.eqns for atom in equation.outvars}
        self._bodies: dict[int, Body] = {}
        for equation in jaxpr.eqns:
            self._spread(equation, body_of)
        self.linear_out = [self._is_linear(atom) for atom in jaxpr.outvars]
        self._through = {
            atom: given(("through", i), each)
            for i, (atom, each) in enumerate(zip(jaxpr.invars, through, strict=True))
            if each is not None
        }
        self._asked: dict[Any, Mask] = {}
        self._zeros: dict[int, Mask] = {}
        self._everywhere: set[Any] = set()
        for equation in jaxpr.eqns:
            self._forward(equation)
        for i, (atom, each) in enumerate(zip(jaxpr.outvars, asked, strict=True)):
            if self._is_linear(atom):
                self._ask(atom, None if each is None else given(("asked", i), each))
        for equation in reversed(jaxpr.eqns):
            self._backward(equation)
        self._factors = dict(filter(None, map(self._replaced, jaxpr.eqns)))
        self._changed = {}
        for equation in jaxpr.eqns:
            if id(equation) in self._bodies:
                changed = self._bodies[id(equation)].changed(
                    [self._through_of(atom) for atom in equation.invars],
                    [self._asked_of(atom) for atom in equation.outvars],
                )
                if changed is not None:
                    self._changed[id(equation)] = changed

    @property
    def through_out(self) -> list[Mask | None]:
        """Where each output may differ from zero."""
        return [self._through_of(atom) for atom in self.jaxpr.outvars]

    @property
    def asked_in(self) -> list[Mask | None]:
        """Where each input has an effect."""
        return [self._asked_of(atom) for atom in self.jaxpr.invars]

    @property
    def needs(self) -> list[Name] | None:
        """Which masks the changed program reads of that around; None where nothing changes."""
        if not self._factors and not self._changed:
            return None
        inner = [mask for changed in self._changed.values() for mask in changed.masks]
        return names([*(mask for _, mask in self._factors.values()), *inner])

    def prepare(self, values: Values) -> None:
        """Evaluate what takes the place of factors and goes into bodies, once for all runs."""
        for equation in self.jaxpr.eqns:
            self._replacement(equation, values)

    def run(self, values: Values, inputs: Sequence[Any]) -> list[Any]:
        """Evaluate the changed program."""
        values = values.copy()
        values.update(self.jaxpr.invars, inputs)
        for equation in self.jaxpr.eqns:
            if equation.outvars and all(atom in values for atom in equation.outvars):
                continue
            operands = [values.read(atom) for atom in equation.invars]
            replacement = self._replacement(equation, values)
            if id(equation) in self._factors:
                operands[self._factors[id(equation)][0]] = replacement
            if id(equation) in self._changed:
                outs = self._changed[id(equation)].bind(operands, replacement)
            else:
                outs = bind(equation, operands)
            values.update(equation.outvars, outs)
        return [values.read(atom) for atom in self.jaxpr.outvars]

    def _replacement(self, equation: Any, values: Values) -> Any:
        key = id(equation)
        if key not in values.factors and key in self._factors:
            place, mask = self._factors[key]
            factor = values.read(equation.invars[place])
            neutral = jnp.full((), equation.primitive.name == "div", factor.dtype)
            values.factors[key] = jnp.where(values.of(mask), factor, neutral)
        elif key not in values.factors and key in self._changed:
            values.factors[key] = [values.of(mask) for mask in self._changed[key].masks]
        return values.factors.get(key)

    def _spread(self, equation: Any, body_of: BodyOf) -> None:
        """Which outputs are linear."""
        linear = [self._is_linear(atom) for atom in equation.invars]
        shared = [self._is_shared(atom) for atom in equation.invars]
        if all(shared):
            self._shared.update(equation.outvars)
        if not any(linear):
            return
        body = body_of(equation, linear, None if self._whole else shared)
        if body is not None:
            self._bodies[id(equation)] = body
        outs = [True] * len(equation.outvars) if body is None else body.linear_out
        self.linear.update(a for a, each in zip(equation.outvars, outs, strict=True) if each)

    def _is_linear(self, atom: Any) -> bool:
        return not isinstance(atom, jex.Literal) and atom in self.linear

    def _is_shared(self, atom: Any) -> bool:
        return isinstance(atom, jex.Literal) or atom in self._shared

    def _through_of(self, atom: Any) -> Mask | None:
        return self._through.get(atom) if self._is_linear(atom) else self._nowhere(atom)

    def _asked_of(self, atom: Any) -> Mask | None:
        if not self._is_linear(atom) or atom in self._everywhere:
            return None
        return self._asked.get(atom) or self._nowhere(atom)

    def _nowhere(self, atom: Any) -> Mask:
        return self._zeros.setdefault(id(atom), nowhere(atom.aval))

    def _replaced(self, equation: Any) -> tuple[int, tuple[int, Mask]] | None:
        """Of a product with a factor that is an array: its place and where."""
        contracts = equation.primitive.name == "dot_general"
        linear = [self._is_linear(atom) for atom in equation.invars]
        if not (contracts or equation.primitive.name in _PRODUCTS) or linear.count(True) != 1:
            return None
        place, (out,) = linear.index(False), equation.outvars
        factor, other = equation.invars[place], equation.invars[1 - place]
        if isinstance(factor, jex.Literal):
            return None
        asked = None if out in self._everywhere else self._asked.get(out)
        through, shape = self._through.get(other), out.aval.shape
        if contracts:
            shared = self._whole or factor in self._shared
            mask = met_in_sum(equation, place, through, asked, shared=shared)
        else:
            mask = both(spread(through, other.aval.shape, shape), asked)
            mask = gathered(mask, shape, factor.aval.shape)
        return None if mask is None else (id(equation), (place, mask))

    def _cases(self, equation: Any) -> list[tuple[Any, Mask]]:
        """The linear cases of a selection, each with where it is chosen."""
        which, *cases = equation.invars
        if isinstance(which, jex.Literal) or self._is_linear(which):
            return []
        shape = equation.outvars[0].aval.shape
        return [
            (case, chosen(which, i, shape, partial(clauses_of, which, self._made_by, holds=i > 0)))
            for i, case in enumerate(cases)
            if self._is_linear(case)
        ]

    def _forward(self, equation: Any) -> None:
        """Where a linear value may differ from zero, of those of which a condition says so."""
        name, body = equation.primitive.name, self._bodies.get(id(equation))
        flags = [self._is_linear(atom) for atom in equation.invars]
        linear = [atom for atom, each in zip(equation.invars, flags, strict=True) if each]
        known = [self._through.get(atom) for atom in linear]
        outs: Masks = ()
        if not linear:
            return
        if body is not None:
            outs = body.through([self._through_of(atom) for atom in equation.invars])
        elif name == "select_n":
            parts = [
                both(chosen, self._through.get(case)) for case, chosen in self._cases(equation)
            ]
            # With a linear value for every case nothing is left out, unless it was before.
            every = len(parts) == len(equation.invars) - 1
            if parts and not (every and all(mask is None for mask in known)):
                outs = [either([mask for mask in parts if mask is not None])]
        elif name in _MOVES:
            if any(mask is not None for mask in known):
                left = iter(known)
                outs = along(equation, flags, [next(left) if each else None for each in flags])
        elif name in _SAME | _SUMS or (name in _PRODUCTS and len(linear) == 1):
            shape = equation.outvars[0].aval.shape
            spreads = [spread(m, a.aval.shape, shape) for a, m in zip(linear, known, strict=True)]
            masks = [mask for mask in spreads if mask is not None]
            outs = [either(masks)] if len(masks) == len(known) else ()
        elif name not in _UNREAD and None not in known:
            outs = behind_mixed(equation, flags, known)
        self._through.update(
            (atom, mask)
            for atom, mask in zip(equation.outvars, outs, strict=False)
            if mask is not None and self._is_linear(atom)
        )

    def _backward(self, equation: Any) -> None:
        """Where a linear value has an effect, of those of which a condition says so."""
        name, body = equation.primitive.name, self._bodies.get(id(equation))
        flags = [self._is_linear(atom) for atom in equation.invars]
        linear = [atom for atom, each in zip(equation.invars, flags, strict=True) if each]
        if not linear:
            return
        outs = [self._asked_of(atom) for atom in equation.outvars]
        if body is not None:
            for atom, mask in zip(equation.invars, body.asked(outs), strict=True):
                if self._is_linear(atom):
                    self._ask(atom, mask)
        elif name == "select_n" and (cases := self._cases(equation)):
            for case, where in cases:
                self._ask(case, both(where, outs[0]))
        elif name in _MOVES and any(mask is not None for mask in outs):
            for atom, mask in zip(linear, back(equation, flags, outs), strict=True):
                self._ask(atom, mask)
        elif name in _SAME | _SUMS | _PRODUCTS:
            shape = equation.outvars[0].aval.shape
            for atom in linear:
                self._ask(atom, gathered(outs[0], shape, atom.aval.shape))
        else:
            known = name not in _UNREAD and None not in outs
            for place, atom in enumerate(equation.invars):
                if flags[place]:
                    self._ask(atom, before_mixed(equation, place, outs) if known else None)

    def _ask(self, atom: Any, mask: Mask | None) -> None:
        if mask is None:
            self._everywhere.add(atom)
        else:
            self._asked[atom] = either([self._asked[atom], mask]) if atom in self._asked else mask
