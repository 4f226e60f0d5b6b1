"""First derivatives of a linearised function by entries of x, carried through its linear program.

Each value's derivatives are kept by those entries alone that it sees and, where not all of the
Jacobian is asked for, that it is needed for: of a diagonal, behind the first of six 3x3
convolutions by 9 positions, behind the third by 49 and behind the fifth by 9 again, where a
colouring takes 49 products of the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from .._forms import Form
from .._interpret import interpret, on_tangents
from ._carried import Carried, Order
from ._colors import Seen
from ._directions import Directions, full, itself, narrowed, restricted, with_slots
from ._linear import linear
from ._needed import needed_by
from ._run import Runner

if TYPE_CHECKING:
    from jaxtyping import Array


class _LinearRunner(Runner):
    """Runs linear programs, in which a selection leaves out what is no number.

    Its derivative times that would be none either.
    """

    def _derive(self, equation: Any, form: Form, operands: list[Any]) -> list[Any]:
        if equation.primitive.name == "select_n":
            return linear(equation, form, operands, self.order)
        return super()._derive(equation, form, operands)


class Carrier:
    """A linear program of one tangent and one output, through which directions are carried.

    Args:
        jaxpr: the program.
        along: which of its inputs is the tangent, `[N, *in]`.
        consts: of the program.
        inputs: the others; anything for the tangent.
        axes: those of x (from 1) along which derivatives are kept apart.
        diagonal: whether an entry of the output is needed for the entry of x in its place alone.
    """

    def __init__(
        self,
        jaxpr: Any,
        along: Sequence[bool],
        consts: Sequence[Any],
        inputs: Sequence[Any],
        axes: Sequence[int],
        *,
        diagonal: bool,
    ) -> None:
        self._jaxpr, self._consts, self._inputs = jaxpr, consts, list(inputs)
        self._on_tangents = {id(equation) for equation, _ in on_tangents(jaxpr, along)}
        self._which = list(along).index(True)
        variable = jaxpr.invars[self._which]
        self._seen = tuple(itself(variable.aval.shape)[axis - 1] for axis in axes)
        self._wanted = self._seen if diagonal else None
        self._runner = _LinearRunner(Order(keep=False))
        self._known = self._values()
        if self._wanted is not None:
            needed = needed_by(jaxpr, along, [self._wanted], self._known)
            self._runner.order = Order(keep=False, needed=needed)

    def _values(self) -> Mapping[Any, Any]:
        """What needs no tangent, computed once."""
        jaxpr = self._jaxpr
        known = dict(zip(jaxpr.constvars, self._consts, strict=True))
        known.update(zip(jaxpr.invars, self._inputs, strict=True))
        for equation in jaxpr.eqns:
            # Who is called back hears of the function's own evaluation.
            if id(equation) not in self._on_tangents and equation.outvars:
                operands = [
                    atom.val if isinstance(atom, jex.Literal) else known[atom]
                    for atom in equation.invars
                ]
                known.update(zip(equation.outvars, self._runner.apply(equation, operands),
                                 strict=True))  # fmt: skip
        return known

    def carry(self, tangent: Array) -> Directions | None:
        """Derivatives of the output along a tangent; None where it does not depend on it.

        Args:
            tangent: `[1, *in]`, which broadcasts to x; its entries along `axes` are those whose
                derivatives are kept apart, and those in one place there are taken together.
        """
        count = len(self._seen)
        array = tangent.reshape(with_slots(tangent.shape, (1,) * count))
        colors = tuple(np.zeros(each.shape[-1], int) for each in self._seen)
        directions = Directions(array, colors, self._seen)
        inputs = list(self._inputs)
        value = jnp.zeros_like(inputs[self._which])
        inputs[self._which] = Carried(value, self._seen, lambda: directions, lambda: None)

        def apply(equation: Any, operands: list[Any]) -> list[Any]:
            if id(equation) not in self._on_tangents:
                return [self._known.get(variable) for variable in equation.outvars]
            return self._runner.apply(equation, operands)

        (out,) = interpret(self._jaxpr, self._consts, inputs, apply)
        if not isinstance(out, Carried):
            return None
        found = out.tangent()
        if self._wanted is None:
            return found
        wanted: tuple[Seen, ...] = self._wanted
        return narrowed(found, tuple(restricted(found, wanted)))


def in_place(directions: Directions | None, like: Array) -> Array:
    """Of derivatives by the entry in the same place alone, one each: they, in the shape of x."""
    if directions is None:
        return jnp.zeros_like(like)
    array = full(directions, like.shape)
    return array.reshape(like.shape).astype(like.dtype)


def entries(directions: Directions | None, like: Array) -> Array:
    """All derivatives of an output of that shape, `[N, *slots, *out]`."""
    return jnp.zeros_like(like) if directions is None else full(directions, like.shape)
