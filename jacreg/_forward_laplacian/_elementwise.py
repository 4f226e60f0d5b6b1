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
from .._guard import takes
from .._interpret import bind
from ._carried import Carried, Order, value_of
from ._colors import union
from ._conditions import both, either
from ._directions import Directions, scale, total, with_slots, within

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
        length: number of operations in it.
        kept: where a condition in it does not leave out the root; None where there is none.
    """

    def __init__(
        self,
        value: Array,
        root: Carried,
        apply: Callable[[Array], Array],
        factor: Any,
        *,
        curved: bool,
        length: int,
        order: Order,
        kept: Any,
    ) -> None:
        super().__init__(value, root.seen, self._first_order, self._second_order, self._mask)
        self.root, self.apply, self.factor = root, apply, factor
        self.curved, self.length, self.order, self.kept = curved, length, order, kept
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
        found = found if first is None else scale(found, first)
        mask = self.through()
        return found if mask is None else within(found, mask)

    def _mask(self) -> Any:
        return both(self.kept, self.root.through())

    def _second_order(self) -> Any:
        first, second = self._derivatives()
        linear = self.root.second()
        if first is not None:
            linear = self.order.scale(linear, first)
        if second is not None:
            tangent = self.root.tangent()
            squares = self.order.of_product(tangent, tangent)
            linear = self.order.total([linear, self.order.scale(squares, second)])
        return self.order.within(linear, self.through())


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
    if len(roots) == 1 and (length > _LONGEST_CHAIN or _parts_leave_out(equation, carried)):
        roots = {id(each): each for each in carried}
    if len(roots) == 1 and carried[0].value.shape == value.shape:
        (root,) = roots.values()

        def apply(at: Array) -> Array:
            return call(*(
                (each.apply(at) if isinstance(each, Entrywise) and each is not root else at)
                if isinstance(each, Carried) else each
                for each in operands
            ))  # fmt: skip

        bent = form.degree == "smooth" and not _divides(equation, operands)
        curved = (
            bent
            or (form.degree == "bilinear" and len(carried) > 1)
            or any(isinstance(e, Entrywise) and e is not root and e.curved for e in carried)
        )
        return Entrywise(
            value,
            root,
            apply,
            _factor(equation, operands, root, small),
            curved=curved,
            length=length if root is not carried[0] else 1,
            order=order,
            kept=_kept(equation, operands, root) if order.conditions else None,
        )
    return _of_several(equation, form, operands, value, call, order)


def _root(operand: Carried) -> Carried:
    return operand.root if isinstance(operand, Entrywise) else operand


def _parts_leave_out(equation: Any, carried: Sequence[Carried]) -> bool:
    """Whether an operand may have no derivative where its own condition leaves out the root."""
    several = len(carried) > 1 and equation.primitive.name != "select_n"
    return several and any(isinstance(e, Entrywise) and e.kept is not None for e in carried)


def _kept(equation: Any, operands: Sequence[Any], root: Carried) -> Any:
    """Where the root matters, entry by entry."""

    def own(operand: Any) -> Any:
        return operand.kept if isinstance(operand, Entrywise) and operand is not root else None

    return _let_through(equation, operands, own)


def _let_through(equation: Any, operands: Sequence[Any], own: Callable[[Any], Any]) -> Any:
    """Where an operation depends on its operands, given the mask of each that is carried."""
    places = [place for place, each in enumerate(operands) if isinstance(each, Carried)]
    masks = [own(operands[place]) for place in places]
    always = len(places) == len(operands) - 1 and all(mask is None for mask in masks)
    if equation.primitive.name == "select_n" and always:
        return None  # whichever case is taken depends on x
    pairs = zip(places, masks, strict=True)
    return either([both(_case(equation, operands, place), mask) for place, mask in pairs])


def _case(equation: Any, operands: Sequence[Any], place: int) -> Any:
    """Where a selection takes an operand, None of other operations."""
    return takes(operands[0], place - 1) if equation.primitive.name == "select_n" else None


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
        return directions if isinstance(factor, int) and factor == 1 else scale(directions, factor)

    def mask(place: int) -> Any:
        if not order.conditions:
            return None
        return both(_case(equation, operands, place), operands[place].through())

    def at(place: int) -> Directions:
        found, own = scaled(lifted(place), first(place)), mask(place)
        return found if own is None else within(found, own)

    def tangent() -> Directions:
        return total([at(place) for place in places])

    def second_order() -> Any:
        terms = [
            order.within(order.scale(operands[place].second(), first(place)), mask(place))
            for place in places
        ]
        if form.degree in ("smooth", "bilinear"):
            for number, i in enumerate(places):
                for j in places[number:]:
                    factor = second(i, j)
                    if factor is not None:
                        pair = order.of_product(lifted(i), lifted(j))
                        term = order.scale(pair, factor if i == j else 2 * factor)
                        terms.append(order.within(term, both(mask(i), mask(j))))
        return order.total(terms)

    rank = value.ndim
    seen = union([
        tuple(s if s.ndim == rank + 1 else s.reshape((1,) * rank + s.shape[-1:])
              for s in operands[place].seen)
        for place in places
    ])  # fmt: skip

    def through() -> Any:
        if not order.conditions:
            return None
        return _let_through(equation, operands, lambda each: each.through())

    return Carried(value, seen, tangent, second_order, through)
