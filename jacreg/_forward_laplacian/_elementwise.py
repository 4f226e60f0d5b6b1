"""Elementwise operations: first and second derivatives as arrays of the value's shape.

A chain of them after one operand is differentiated as one function, so that each direction costs
one multiplication however long the formula of an activation is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._forms import Form
from .._interpret import bind
from ._carried import Carried, Order, value_of
from ._colors import union
from ._directions import Directions, scale, total, with_slots

if TYPE_CHECKING:
    from jaxtyping import Array

# Each link of a chain evaluates those before it once more while tracing.
_LONGEST_CHAIN = 16
_SIGNS = {"add": (1, 1), "add_any": (1, 1), "sub": (1, -1), "neg": (-1,)}
_UNCHANGED = ("convert_element_type", "copy", "copy_p", "reduce_precision", "name", "real")


class Entrywise(Carried):
    """An elementwise function of one intermediate, `root`.

    Attributes:
        root: the intermediate.
        apply: the function of its value.
        factor: its derivative where it is the same for every value, else None.
        curved: whether it has a second derivative.
        chosen: whether a choice is in it, which leaves out what is not finite.
        length: number of operations in it.
    """

    def __init__(
        self,
        value: Array,
        root: Carried,
        apply: Callable[[Array], Array],
        factor: Any,
        *,
        curved: bool,
        chosen: bool,
        length: int,
        order: Order,
    ) -> None:
        super().__init__(value, root.seen, self._first_order, self._second_order)
        self.root, self.apply, self.factor = root, apply, factor
        self.curved, self.chosen, self.length, self.order = curved, chosen, length, order
        self._known: tuple[Any, Any] | None = None

    def _derivatives(self) -> tuple[Any, Any]:
        """First and second derivative of the function, None where they are one or zero."""
        if self._known is None:
            at, one = self.root.value, jnp.ones_like(self.root.value)

            def slope(value: Array) -> Array:
                return jax.jvp(self.apply, (value,), (one,))[1]

            if self.factor is not None:
                first = None if self.factor is _ONE else self.factor
                self._known = first, None
            elif self.curved:
                self._known = jax.jvp(slope, (at,), (one,))
            else:
                self._known = slope(at), None
        return self._known

    def _first_order(self) -> Directions:
        first, _ = self._derivatives()
        found = self.root.tangent()
        return found if first is None else scale(found, first, chosen=self.chosen)

    def _second_order(self) -> Any:
        first, second = self._derivatives()
        linear = self.root.second()
        if first is not None:
            linear = self.order.scale(linear, first, chosen=self.chosen)
        if second is None:
            return linear
        tangent = self.root.tangent()
        squares = self.order.of_product(tangent, tangent)
        return self.order.total([linear, self.order.scale(squares, second, chosen=self.chosen)])


_ONE = object()


def entrywise(
    equation: Any,
    form: Form,
    operands: Sequence[Any],
    order: Order,
    small: Callable[[Any], Any],
) -> Carried:
    """Carry an elementwise operation.

    Args:
        equation: with one output.
        form: its row.
        operands: some of them carried.
        order: what is carried of second derivatives.
        small: an array that does not depend on x, with length 1 along axes where it is constant.
    """

    def call(*values: Any) -> Array:
        return bind(equation, values)[0]

    value = call(*map(value_of, operands))
    carried = [each for each in operands if isinstance(each, Carried)]
    roots = {id(_root(each)): _root(each) for each in carried}
    length = 1 + max(each.length if isinstance(each, Entrywise) else 0 for each in carried)
    if len(roots) == 1 and length > _LONGEST_CHAIN:
        roots = {id(each): each for each in carried}
    if len(roots) == 1 and carried[0].value.shape == value.shape:
        (root,) = roots.values()

        def apply(at: Array) -> Array:
            return call(*(
                (each.apply(at) if isinstance(each, Entrywise) and each is not root else at)
                if isinstance(each, Carried) else each
                for each in operands
            ))  # fmt: skip

        inside = [each for each in carried if isinstance(each, Entrywise) and each is not root]
        bent = form.degree == "smooth" and not _divides(equation, operands)
        curved = (
            bent
            or (form.degree == "bilinear" and len(carried) > 1)
            or any(each.curved for each in inside)
        )
        return Entrywise(
            value,
            root,
            apply,
            _factor(equation, operands, root, small),
            curved=curved,
            chosen=form.degree == "piecewise" or any(each.chosen for each in inside),
            length=length if root is not carried[0] else 1,
            order=order,
        )
    return _of_several(equation, form, operands, value, call, order)


def _root(operand: Carried) -> Carried:
    return operand.root if isinstance(operand, Entrywise) else operand


def _divides(equation: Any, operands: Sequence[Any]) -> bool:
    """A quotient by something that does not depend on x is linear."""
    return equation.primitive.name == "div" and not isinstance(operands[1], Carried)


def _factor(equation: Any, operands: Sequence[Any], root: Carried, small: Any) -> Any:
    """The derivative by the root where it does not depend on its value."""
    name = equation.primitive.name

    def own(operand: Any) -> Any:
        return operand.factor if isinstance(operand, Entrywise) and operand is not root else _ONE

    carried = [each for each in operands if isinstance(each, Carried)]
    factors = [own(each) for each in carried]
    if any(factor is None for factor in factors):
        return None
    if name in _UNCHANGED:
        return factors[0]
    if name in _SIGNS:
        signs = [s for s, e in zip(_SIGNS[name], operands, strict=True) if isinstance(e, Carried)]
        if signs == [1]:
            return factors[0]
        return sum(s * (1.0 if f is _ONE else f) for s, f in zip(signs, factors, strict=True))
    if name == "mul" and len(carried) == 1:
        other = small(next(each for each in operands if not isinstance(each, Carried)))
        return other if factors[0] is _ONE else factors[0] * other
    if _divides(equation, operands):
        other = small(operands[1])
        return 1 / other if factors[0] is _ONE else factors[0] / other
    return None


def _of_several(
    equation: Any,
    form: Form,
    operands: Sequence[Any],
    value: Array,
    call: Callable[..., Array],
    order: Order,
) -> Carried:
    """An operation on several intermediates, each with derivatives of its own."""
    name = equation.primitive.name
    places = [place for place, each in enumerate(operands) if isinstance(each, Carried)]
    values = [value_of(each) for each in operands]
    known: dict[Any, Any] = {}
    chosen = form.degree == "piecewise"

    def with_(place: int, at: Any, rest: Sequence[Any]) -> list[Any]:
        return [at if k == place else each for k, each in enumerate(rest)]

    def slope(place: int, rest: Sequence[Any]) -> Array:
        one = jnp.ones_like(rest[place])
        return jax.jvp(lambda at: call(*with_(place, at, rest)), (rest[place],), (one,))[1]

    def first(place: int) -> Any:
        if name in _SIGNS:
            return _SIGNS[name][place]
        if name == "mul":
            return values[1 - place]
        if ("first", place) not in known:
            known["first", place] = slope(place, values)
        return known["first", place]

    def second(i: int, j: int) -> Any:
        if name == "mul":
            return None if i == j else 1
        one = jnp.ones_like(values[j])
        return jax.jvp(lambda at: slope(i, with_(j, at, values)), (values[j],), (one,))[1]

    def lifted(place: int) -> Directions:
        found = operands[place].tangent()
        missing = value.ndim - operands[place].value.ndim
        if not missing:
            return found
        dims = (1,) * missing
        return Directions(
            found.array.reshape(with_slots(dims, found.slots)),
            found.colors,
            tuple(each.reshape((*dims, each.shape[-1])) for each in found.seen),
        )

    def scaled(directions: Directions, factor: Any) -> Directions:
        one = isinstance(factor, int) and factor == 1
        return directions if one else scale(directions, factor, chosen=chosen)

    def tangent() -> Directions:
        return total([scaled(lifted(place), first(place)) for place in places])

    def second_order() -> Any:
        terms = [
            order.scale(operands[place].second(), first(place), chosen=chosen) for place in places
        ]
        if form.degree in ("smooth", "bilinear"):
            for number, i in enumerate(places):
                for j in places[number:]:
                    factor = second(i, j)
                    if factor is not None:
                        both = order.of_product(lifted(i), lifted(j))
                        terms.append(order.scale(both, factor if i == j else 2 * factor))
        return order.total(terms)

    rank = value.ndim
    seen = union([
        tuple(s if s.ndim == rank + 1 else s.reshape((1,) * rank + s.shape[-1:])
              for s in operands[place].seen)
        for place in places
    ])  # fmt: skip
    return Carried(value, seen, tangent, second_order)
