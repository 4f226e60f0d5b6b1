"""The forward Laplacian as a way of `Auto()`: traced to be weighed, if there is what to weigh."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex

from ._basis import AUTOMATIC_ENTRIES
from ._chain import check_diagonal_readable, check_hessian_readable, convolves, may_save
from ._choice import Choice, Unfit, program_cost
from ._forward_laplacian import (
    Order,
    Refusal,
    by_parts,
    first_followed,
    fits_slots,
    forward_hessian_diagonal,
    forward_laplacian,
    most_entries,
)
from ._linearize import Linearization
from ._memory import known_entries
from ._source import place

if TYPE_CHECKING:
    from jaxtyping import Array

PATH = "forward Laplacian"
# Entries of the largest array while all directions are carried at once: 256 MiB in float32.
_MOST_ENTRIES = 4 * AUTOMATIC_ENTRIES
_WHY = "value, directions and second derivatives carried through the program once"


def laplacian_forward(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `laplacian`: all directions at once."""
    return _forward(lin, _at_once(forward_laplacian), _added)


def laplacian_in_parts(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `laplacian`: some entries of x after the other, where the memory asks for it."""
    _check_larger(limit)
    return _forward(lin, _in_parts(keep=False), _added, in_parts=True)


def diagonal_forward(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `hessian_diagonal`: all directions at once."""
    return _forward(lin, _at_once(forward_hessian_diagonal), _as_tree, weighed=True)


def diagonal_in_parts(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `hessian_diagonal`: some entries of x after the other."""
    _check_larger(limit)
    return _forward(lin, _in_parts(keep=True), _as_tree, in_parts=True)


def _check_larger(limit: float) -> None:
    if limit < float("inf"):
        raise Unfit("parts would save nothing")


def _added(lin: Linearization, terms: list[Array]) -> Array:
    return sum(terms[1:], terms[0]).astype(lin.outputs.dtype)


def _as_tree(lin: Linearization, terms: list[Array]) -> Any:
    leaves, treedef = jax.tree.flatten(lin.xs)
    return jax.tree.unflatten(
        treedef, [term.astype(x.dtype) for term, x in zip(terms, leaves, strict=True)]
    )


# A term of the result by one leaf of `xs`: of the field's program, its inputs and which of them,
# and whether a condition leaves out something.
Term = Callable[[Any, list[Any], int, bool], "Array"]


def _at_once(compute: Callable[..., tuple[Array, Array]]) -> Term:
    return lambda field, inputs, which, left_out: compute(
        field, inputs, which, conditions=left_out
    )[1]


def _in_parts(*, keep: bool) -> Term:
    def term(field: Any, inputs: list[Any], which: int, left_out: bool) -> Array:
        size = prod(inputs[which].shape[1:])
        count = max(1, min(size, AUTOMATIC_ENTRIES // _largest(field.jaxpr)))
        order = Order(keep, conditions=left_out)
        return by_parts(field, inputs, which, order, count)

    return term


def _forward(
    lin: Linearization,
    term: Term,
    combine: Callable[[Linearization, list[Array]], Any],
    *,
    in_parts: bool = False,
    weighed: bool = False,
) -> Choice:
    """A forward Laplacian by each leaf of `xs`; the terms add up.

    Args:
        lin: of the scalar field.
        term: of the result by one leaf.
        combine: the terms to the result.
        in_parts: whether memory asks for some entries after the other.
        weighed: whether it is weighed wherever there may be a closed form: where each direction has
            second derivatives of its own it may well take more than other ways.
    """
    inputs = jax.tree.leaves((lin.xs, *lin.args))
    field = jex.ClosedJaxpr(_first_output(lin.program.jaxpr), list(lin.constants))
    leaves = range(len(jax.tree.leaves(lin.xs)))

    def trace() -> Any:
        return jax.make_jaxpr(
            lambda: [term(field, inputs, which, lin.program.left_out) for which in leaves]
        )()

    why = _WHY + _what_is_dear(lin, field.jaxpr)
    if not in_parts and _is_settled(lin, field.jaxpr, weighed):
        return Choice(PATH, 0, why, 0.0, lambda key: combine(lin, jex.jaxpr_as_fun(trace())()))
    try:
        traced = trace()
    except Refusal as refusal:
        equation = refusal.equation
        raise Unfit(
            f"{equation.primitive.name}{place(equation)} {refusal.why}, which a forward Laplacian "
            "needs"
        ) from None
    if in_parts:
        why += "; for each group of entries of x, to bound the memory"
    elif _largest(traced.jaxpr) > _MOST_ENTRIES:
        raise Unfit("all directions at once would take too much memory")
    run = jex.jaxpr_as_fun(traced)
    cost = program_cost(traced.jaxpr)
    return Choice(PATH, 0, why, cost, lambda key: combine(lin, run()))


def _is_settled(lin: Linearization, jaxpr: Any, weighed: bool) -> bool:
    """Whether all directions at once are known to be possible, and nothing to take less.

    Products with the gradient, and colours for them, take as many directions; of a sum of second
    derivatives they cost a multiple. Closed forms of convolutions were looked for before.
    """
    depends = _depends(lin, jaxpr)
    bound = most_entries(jaxpr, depends, max(lin.inputs.sizes))
    if bound is None:
        return False
    if bound > _MOST_ENTRIES:
        shapes = [variable.aval.shape for variable in jaxpr.invars[: sum(depends)]]
        if not fits_slots(jaxpr, shapes, _MOST_ENTRIES):
            return False
    if not weighed and convolves(lin):
        return True
    try:
        (check_diagonal_readable if weighed else check_hessian_readable)(lin)
    except Unfit:
        return True
    return not (weighed or may_save(lin))


def _depends(lin: Linearization, jaxpr: Any) -> list[bool]:
    """Which inputs of a field's program are `xs`."""
    of_xs = len(jax.tree.leaves(lin.xs))
    return [number < of_xs for number in range(len(jaxpr.invars))]


def _what_is_dear(lin: Linearization, jaxpr: Any) -> str:
    """The first operation that takes a derivative of its own for each direction, in words."""
    found = first_followed(jaxpr, _depends(lin, jaxpr))
    if found is None:
        return ""
    return f"; the derivative rule of {''.join(found)} is followed for each direction"


def _first_output(jaxpr: Any) -> Any:
    """The program without its auxiliary outputs."""
    if len(jaxpr.outvars) == 1:
        return jaxpr
    return jaxpr.replace(
        outvars=jaxpr.outvars[:1], debug_info=jaxpr.debug_info.with_unknown_names()
    )


def _largest(jaxpr: Any) -> int:
    """Entries of the largest array that a program computes."""
    own = [known_entries(out.aval.shape) for equation in jaxpr.eqns for out in equation.outvars
           if hasattr(out.aval, "shape")]  # fmt: skip
    inner = [
        _largest(each) for equation in jaxpr.eqns for each in jex.jaxprs_in_params(equation.params)
    ]
    return max([*own, *inner, 1])
