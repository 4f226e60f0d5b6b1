"""Factors of a linear program that a condition leaves out, made finite there.

`jnp.where(x > 0, x, jnp.sqrt(-x))` has the derivative select(x > 0, t, factor * t), with a factor
that is nan where x > 0. Forward, the condition leaves the nan out; in reverse the factor meets the
zero that the condition sends back, and 0 * nan is nan. In `jnp.sqrt(jnp.where(x > 0, x, 0))` it is
the other way about. So a product in one direction would be finite and in the other not, and a
quantity would depend on the direction that it takes. Here a factor is set to zero wherever a
condition before it lets nothing through, or one behind it asks for nothing: both directions then
give the finite value. That changes no entry that is finite in both, and costs one selection for
each such factor, once for all products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_, or_
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from ._interpret import JIT, bind, interpret, interpret_inner, mentions

# Entry by entry; a mask of what enters is one of what leaves, and back.
_SAME = frozenset({"convert_element_type", "copy", "copy_p", "neg"})
_SUMS = frozenset({"add", "add_any", "sub"})
_PRODUCTS = frozenset({"mul", "div"})
# Entries moved, repeated, left out or added up: a mask is taken along as a count of its entries.
_MOVES = frozenset(
    {"rev", "transpose", "reshape", "squeeze", "expand_dims", "slice", "broadcast_in_dim",
     "reduce_sum"}
)  # fmt: skip

# Written down, and evaluated only where a factor needs it: ("is", condition, case), ("and", mask,
# mask) or ("or", mask, ...), ("along", equation, mask) and ("back", equation, mask) of a move.
_Mask = tuple[Any, ...]
_Masks = dict[Any, _Mask]


def with_finite_factors(linear: Any, tangents: Sequence[Any]) -> Any:
    """Return a closed linear program with such factors replaced, itself where there are none.

    Args:
        linear: the program.
        tangents: of the type of its arguments.
    """
    if not (mentions(linear.jaxpr, "select_n") and mentions(linear.jaxpr, "mul")):
        return linear
    flat = _retraced(linear, tangents, _inlined)
    factors = _Reader(flat).factors()
    if not factors:
        return linear

    def apply(equation: Any, operands: list[Any]) -> list[Any]:
        if id(equation) in factors:
            place, factor = factors[id(equation)]
            operands = [factor if i == place else each for i, each in enumerate(operands)]
        return bind(equation, operands)

    return _retraced(flat, tangents, apply)


def _retraced(closed: Any, tangents: Sequence[Any], apply: Callable[..., Any]) -> Any:
    return jax.make_jaxpr(lambda *args: interpret(closed.jaxpr, closed.consts, args, apply))(
        *tangents
    )


def _inlined(equation: Any, operands: list[Any]) -> Any:
    if equation.primitive.name in JIT:
        return interpret_inner(equation, operands, _inlined)
    return bind(equation, operands)


class _Reader:
    """Which factors may be set to zero where."""

    def __init__(self, closed: Any) -> None:
        self._equations = closed.jaxpr.eqns
        self._outputs = closed.jaxpr.outvars
        self._values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        self._linear = set(closed.jaxpr.invars)
        for equation in self._equations:
            if any(self._is_linear(atom) for atom in equation.invars):
                self._linear.update(equation.outvars)

    def factors(self) -> dict[int, tuple[int, Any]]:
        """For an equation, by its identity: which operand is replaced, and by what."""
        let_through, asked_for = self._let_through(), self._asked_for()
        found = {}
        for equation in self._equations:
            place = self._factor(equation)
            if place is None:
                continue
            masks = [
                mask
                for mask in (
                    let_through.get(equation.invars[1 - place]),
                    asked_for.get(equation.outvars[0]),
                )
                if mask is not None
            ]
            if masks:
                factor = self._values[equation.invars[place]]
                mask = self._evaluated(masks[0] if len(masks) == 1 else ("and", *masks))
                neutral = equation.primitive.name == "div"
                found[id(equation)] = (
                    place,
                    jnp.where(mask, factor, jnp.full((), neutral, factor.dtype)),
                )
        return found

    def _evaluated(self, mask: _Mask) -> Any:
        kind, *parts = mask
        if kind == "is":
            condition, case = parts
            return jnp.asarray(self._values[condition], jnp.int32) == case
        if kind in ("along", "back"):
            equation, of = parts
            count = jnp.asarray(self._evaluated(of), jnp.float32)

            def move(array: Any) -> Any:
                return bind(equation, [array])[0]

            if kind == "along":
                return move(count) > 0
            (atom,) = self._linear_operands(equation)
            (count,) = jax.linear_transpose(
                move, jax.ShapeDtypeStruct(atom.aval.shape, jnp.float32)
            )(count)
            return count > 0
        return reduce(and_ if kind == "and" else or_, map(self._evaluated, parts))

    def _is_linear(self, atom: Any) -> bool:
        return not isinstance(atom, jex.Literal) and atom in self._linear

    def _factor(self, equation: Any) -> int | None:
        """The operand of a product that is an array of the examples' own, not a parameter."""
        if equation.primitive.name not in _PRODUCTS:
            return None
        linear = [self._is_linear(atom) for atom in equation.invars]
        if linear.count(True) != 1:
            return None
        place = linear.index(False)
        atom, shape = equation.invars[place], equation.outvars[0].aval.shape
        if isinstance(atom, jex.Literal) or atom not in self._values or not shape:
            return None
        return place if equation.invars[place].aval.shape == shape else None

    def _cases(self, equation: Any) -> list[tuple[Any, Any]]:
        """The linear cases of a selection, each with where it is chosen."""
        which, *cases = equation.invars
        shape = equation.outvars[0].aval.shape
        if isinstance(which, jex.Literal) or which not in self._values or which.aval.shape != shape:
            return []
        return [(case, ("is", which, i)) for i, case in enumerate(cases) if self._is_linear(case)]

    def _let_through(self) -> _Masks:
        """Where a linear value may differ from zero, for those of which a condition says so."""
        masks: _Masks = {}
        for equation in self._equations:
            name, linear = equation.primitive.name, self._linear_operands(equation)
            if name == "select_n":
                cases = self._cases(equation)
                # With a linear value for every case nothing is left out, unless it was before.
                parts = [_both(chosen, masks.get(case)) for case, chosen in cases]
                every = len(cases) == len(equation.invars) - 1
                if parts and not (every and all(case not in masks for case, _ in cases)):
                    masks[equation.outvars[0]] = _any(parts)
            elif name in _SAME or (name in _PRODUCTS and len(linear) == 1):
                if linear and linear[0] in masks and _keeps_shape(equation, linear[0]):
                    masks[equation.outvars[0]] = masks[linear[0]]
            elif name in _MOVES:
                if linear and linear[0] in masks:
                    masks[equation.outvars[0]] = ("along", equation, masks[linear[0]])
            elif (
                name in _SUMS
                and linear
                and all(each in masks and _keeps_shape(equation, each) for each in linear)
            ):
                masks[equation.outvars[0]] = _any([masks[each] for each in linear])
        return masks

    def _asked_for(self) -> _Masks:
        """Where a linear value has an effect, for those of which a condition says so."""
        everywhere = {atom for atom in self._outputs if self._is_linear(atom)}
        masks: _Masks = {}

        def ask(atom: Any, mask: Any) -> None:
            if mask is None:
                everywhere.add(atom)
            elif atom not in everywhere:
                masks[atom] = _any([masks[atom], mask]) if atom in masks else mask

        for equation in reversed(self._equations):
            linear = self._linear_operands(equation)
            out = equation.outvars[0]
            mask = None if out in everywhere else masks.get(out)
            name, cases = equation.primitive.name, []
            if name == "select_n":
                cases = self._cases(equation)
            for atom, chosen in cases:
                ask(atom, _both(chosen, mask))
            if cases:
                continue
            if name in _MOVES and mask is not None:
                ask(linear[0], ("back", equation, mask))
                continue
            passes = name in _SAME | _SUMS | _PRODUCTS
            for atom in linear:
                ask(atom, mask if passes and _keeps_shape(equation, atom) else None)
        return {atom: mask for atom, mask in masks.items() if atom not in everywhere}

    def _linear_operands(self, equation: Any) -> list[Any]:
        return [atom for atom in equation.invars if self._is_linear(atom)]


def _keeps_shape(equation: Any, atom: Any) -> bool:
    return atom.aval.shape == equation.outvars[0].aval.shape


def _both(chosen: _Mask, mask: _Mask | None) -> _Mask:
    return chosen if mask is None else ("and", chosen, mask)


def _any(masks: list[_Mask]) -> _Mask:
    return masks[0] if len(masks) == 1 else ("or", *masks)
