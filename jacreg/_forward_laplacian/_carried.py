"""An intermediate with its derivatives, each computed when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ._colors import Seen
from ._directions import (
    Directions,
    narrowed,
    product,
    restricted,
    scale,
    summed,
    total,
    widened,
    within,
)
from ._needed import Needed, of_what_is_needed

if TYPE_CHECKING:
    from jaxtyping import Array


class Refusal(Exception):
    """An operation that the forward Laplacian does not go through; `equation` is that one."""

    def __init__(self, equation: Any, why: str) -> None:
        super().__init__(why)
        self.equation = equation
        self.why = why


class Carried:
    """A value that depends on x: tangents by the entries of x, and a second-order term.

    Both are computed at their first use: the last layers of an energy need no tangents, and an
    elementwise function of an elementwise function needs those of the first operand alone.

    Attributes:
        value: the intermediate.
        seen: for each axis of x which entry sees which position.
    """

    def __init__(
        self,
        value: Array,
        seen: tuple[Seen, ...],
        tangent: Callable[[], Directions],
        second: Callable[[], Any],
        through: Callable[[], Any] = lambda: None,
    ) -> None:
        self.value = value
        self.seen = seen
        self._tangent: Any = tangent
        self._second: Any = second
        self._through: Any = through

    def tangent(self) -> Directions:
        """First derivatives."""
        if callable(self._tangent):
            self._tangent = self._in_own_type(self._tangent())
        return self._tangent

    def second(self) -> Any:
        """Second derivatives, see `Order`; None where they are zero."""
        if callable(self._second):
            self._second = self._in_own_type(self._second())
        return self._second

    def through(self) -> Any:
        """Where it may depend on x, with axes of length 1 along which that does not change.

        None where no condition says so; see `Order`.
        """
        if callable(self._through):
            self._through = self._through()
        return self._through

    def _in_own_type(self, term: Any) -> Any:
        """Derivatives in the type of the value, which operations on both ask for."""
        if term is None:
            return None
        if isinstance(term, Directions):
            return term._replace(array=term.array.astype(self.value.dtype))
        return term.astype(self.value.dtype)


class Order:
    """What is carried of the second derivatives d^2 / dx_i^2.

    `Order(keep=False)`: their sum over i, an array. `Order(keep=True)`: each, as `Directions`.
    With `conditions`, what a selection leaves out is zero even where it is not finite. `needed`
    says of equations, by their id, what their outputs are needed for (see `needed_by`).
    """

    def __init__(
        self, keep: bool, *, conditions: bool = False, needed: Mapping[int, Needed] | None = None
    ) -> None:
        self.keep = keep
        self.conditions = conditions
        self._needed = needed or {}

    def needed(self, equation: Any) -> Needed:
        """What each output of an equation is needed for; None for one that is needed for all."""
        return self._needed.get(id(equation)) or [None] * len(equation.outvars)

    def of_product(self, first: Directions, second: Directions) -> Any:
        """Products of derivatives by the same entry of x."""
        found = product(first, second)
        return found if self.keep else summed(found)

    def scale(self, term: Any, factor: Any) -> Any:
        """A term times an array, entry by entry."""
        if term is None:
            return None
        if self.keep:
            return scale(term, factor)
        term, factor = widened([term, factor])
        return term * factor

    def within(self, term: Any, mask: Any) -> Any:
        """A term where a mask is true, zero elsewhere."""
        if term is None or mask is None:
            return term
        return within(term, mask) if self.keep else jnp.where(mask, term, 0)

    def total(self, terms: Sequence[Any]) -> Any:
        """Sum of terms."""
        terms = [term for term in terms if term is not None]
        if not terms:
            return None
        if self.keep:
            return total(terms)
        terms = widened(terms)
        return sum(terms[1:], terms[0])


def narrow(operand: Any, needed: tuple[Seen, ...] | None) -> Any:
    """An output with derivatives by what it is needed for alone; None where that is all."""
    if needed is None or not isinstance(operand, Carried):
        return operand
    seen = of_what_is_needed(operand.seen, needed)
    if all(a is b or np.array_equal(a, b) for a, b in zip(seen, operand.seen, strict=True)):
        return operand

    def tangent() -> Directions:
        found = operand.tangent()
        return narrowed(found, tuple(restricted(found, seen)))

    return Carried(operand.value, seen, tangent, operand.second, operand.through)


def value_of(operand: Any) -> Any:
    """The value, whether it depends on x or not."""
    return operand.value if isinstance(operand, Carried) else operand


def at_rank(array: Array, rank: int) -> Array:
    """The array with axes of one entry before its own ones."""
    return jnp.broadcast_to(array, (1,) * (rank - array.ndim) + array.shape)


def seen_of(operand: Any) -> tuple[Seen, ...] | None:
    """What it sees of x, None where it does not depend on it."""
    return operand.seen if isinstance(operand, Carried) else None
