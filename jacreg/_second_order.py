"""The forward Laplacian as a way of `Auto()`: traced to be weighed, if there is what to weigh."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.extend.core as jex

from ._basis import AUTOMATIC_ENTRIES
from ._chain import check_hessian_readable, convolves, may_save
from ._choice import Choice, Unfit, program_cost
from ._convolution import run_with_products
from ._forward_laplacian import (
    Order,
    Refusal,
    by_parts,
    first_followed,
    most_entries,
    room,
    second_order,
)
from ._interpret import equations
from ._linearize import Linearization
from ._memory import known_entries
from ._sharding import is_spread
from ._source import place

if TYPE_CHECKING:
    from jaxtyping import Array

    from ._choice import Way

PATH = "forward Laplacian"
# Entries of the largest array while all directions are carried at once: 256 MiB in float32.
_MOST_ENTRIES = 4 * AUTOMATIC_ENTRIES
_TOO_LARGE = "all directions at once would take too much memory"
_WHY = "value, directions and second derivatives carried through the program once"


def _added(lin: Linearization, terms: list[Array]) -> Array:
    return sum(terms[1:], terms[0]).astype(lin.outputs.dtype)


def _as_tree(lin: Linearization, terms: list[Array]) -> Any:
    leaves, treedef = jax.tree.flatten(lin.xs)
    return jax.tree.unflatten(
        treedef, [term.astype(x.dtype) for term, x in zip(terms, leaves, strict=True)]
    )


class _Kind(NamedTuple):
    """What is made of the second derivatives.

    Attributes:
        keep: whether each is kept: then it may well take more than closed forms.
        combine: the terms of the result by each leaf of `xs`, to the result.
    """

    keep: bool
    combine: Callable[[Linearization, list[Array]], Any]


_LAPLACIAN, _DIAGONAL = _Kind(False, _added), _Kind(True, _as_tree)


def _at_once(kind: _Kind) -> Way:
    """Way by all directions at once, or in parts where no other way takes less."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        in_parts = _settled(lin, _field(lin).jaxpr, kind)
        if in_parts is None:
            return _traced(lin, kind)

        def run(key: Any) -> Any:
            return kind.combine(lin, _run(lin, _trace(lin, kind, in_parts=in_parts)))

        return Choice(PATH, 0, partial(_why, lin, in_parts=in_parts), 0.0, run)

    return way


def _in_parts(kind: _Kind) -> Way:
    """Way by some entries of x after the other, where the memory asks for it."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        if limit < float("inf"):
            raise Unfit("parts would save nothing")
        return _traced(lin, kind, in_parts=True)

    return way


def _traced(lin: Linearization, kind: _Kind, *, in_parts: bool = False) -> Choice:
    """A forward Laplacian with what it costs."""
    try:
        traced = _trace(lin, kind, in_parts=in_parts)
    except Refusal as refusal:
        equation = refusal.equation
        raise Unfit(
            f"{equation.primitive.name}{place(equation)} {refusal.why}, which a forward Laplacian "
            "needs"
        ) from None
    if not in_parts and _largest(traced.jaxpr) > _MOST_ENTRIES:
        raise Unfit(_TOO_LARGE)
    cost = program_cost(traced.jaxpr)
    why = partial(_why, lin, in_parts=in_parts)
    return Choice(PATH, 0, why, cost, lambda key: kind.combine(lin, _run(lin, traced)))


def _run(lin: Linearization, traced: Any) -> list[Array]:
    """The terms, of which each convolution has kernels on a CPU, as those of products have."""
    if is_spread(lin.xs):
        return jex.jaxpr_as_fun(traced)()
    return run_with_products(traced)


def _trace(lin: Linearization, kind: _Kind, *, in_parts: bool) -> Any:
    """The program of the terms by each leaf of `xs`."""
    inputs, field = jax.tree.leaves((lin.xs, *lin.args)), _field(lin)
    order = Order(kind.keep, conditions=lin.program.left_out)

    def term(which: int) -> Array:
        if not in_parts:
            return second_order(field, inputs, which, order)
        # As many directions at a time as fit.
        size = prod(inputs[which].shape[1:])
        count = max(1, min(size, AUTOMATIC_ENTRIES // _largest(field.jaxpr)))
        return by_parts(field, inputs, which, order, count)

    return jax.make_jaxpr(lambda: list(map(term, range(len(jax.tree.leaves(lin.xs))))))()


def _settled(lin: Linearization, jaxpr: Any, kind: _Kind) -> bool | None:
    """Whether in parts, where nothing is known to take less; None where that has to be weighed.

    Products with the gradient, and colours for them, take as many directions; of a sum of second
    derivatives they cost a multiple. Closed traces of convolutions were looked for before, and
    there is no closed diagonal.

    Raises:
        Unfit: all directions at once take too much memory, and other ways may take less than parts.
    """
    depends = _depends(lin, jaxpr)
    bound = most_entries(jaxpr, depends, max(lin.inputs.sizes))
    if bound is None:
        return None
    shapes = [variable.aval.shape for variable in jaxpr.invars[: sum(depends)]]
    fits = bound <= _MOST_ENTRIES or (found := room(jaxpr, shapes, _MOST_ENTRIES)).fits
    if not fits and not found.exceeds:
        return None
    local = convolves(lin)
    if not local and _may_be_closed(lin, kind):
        if fits:
            return None
    elif fits or (found.mixes and not local):
        return not fits
    # In a loop over parts, convolutions have no fast kernels.
    raise Unfit(_TOO_LARGE)


def _may_be_closed(lin: Linearization, kind: _Kind) -> bool:
    """Whether matrices may have a closed form that takes less."""
    try:
        check_hessian_readable(lin)
    except Unfit:
        return False
    return kind.keep or may_save(lin)


def _depends(lin: Linearization, jaxpr: Any) -> list[bool]:
    """Which inputs of a field's program are `xs`."""
    of_xs = len(jax.tree.leaves(lin.xs))
    return [number < of_xs for number in range(len(jaxpr.invars))]


def _why(lin: Linearization, *, in_parts: bool) -> str:
    """In words, with the first operation that takes a derivative of its own for each direction."""
    jaxpr, why = _field(lin).jaxpr, _WHY
    found = first_followed(jaxpr, _depends(lin, jaxpr))
    if found is not None:
        why += f"; the derivative rule of {''.join(found)} is followed for each direction"
    return f"{why}; for each group of entries of x, to bound the memory" if in_parts else why


def _field(lin: Linearization) -> Any:
    """The closed program of a scalar field."""
    return jex.ClosedJaxpr(_first_output(lin.program.jaxpr), list(lin.constants))


def _first_output(jaxpr: Any) -> Any:
    """The program without its auxiliary outputs."""
    if len(jaxpr.outvars) == 1:
        return jaxpr
    return jaxpr.replace(
        outvars=jaxpr.outvars[:1], debug_info=jaxpr.debug_info.with_unknown_names()
    )


def _largest(jaxpr: Any) -> int:
    """Entries of the largest array that a program computes."""
    outs = (out.aval for equation in equations(jaxpr) for out in equation.outvars)
    return max((known_entries(aval.shape) for aval in outs if hasattr(aval, "shape")), default=1)


laplacian_forward, laplacian_in_parts = _at_once(_LAPLACIAN), _in_parts(_LAPLACIAN)
diagonal_forward, diagonal_in_parts = _at_once(_DIAGONAL), _in_parts(_DIAGONAL)
