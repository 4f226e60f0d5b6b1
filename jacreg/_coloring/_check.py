"""Refuse a colouring where it does not belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._dependence import LengthError, LinearProgram, fingerprint, is_structural
from .._dependence._boolean import Boolean
from .._linearize import Linearization
from .._memory import is_symbolic
from .._recent import Recent
from ._coloring import KINDS, Coloring, ColoringError
from ._reading import linear_program, relation_in, structural_key

if TYPE_CHECKING:
    from ._relation import Relation

# Relations of the functions that colourings were found to fit, the last ones used.
_CHECKED: Recent[Relation] = Recent(64)
# A relation with more entries is not written out to see whether colours keep it apart.
_MOST_ENTRIES = 40_000_000


def check(quantity: str, kind: str, coloring: Coloring, lin: Linearization) -> Relation:
    """Return the relation of a function; raise unless a colouring was made for it.

    The traced derivative must be the one that was coloured. Where the batch has another size, or
    integers and booleans that the function closes over or takes as arguments are others (or are
    traced and so not known), it is read again: the plan must keep apart what may meet, and
    what products hold is told from this relation, not from the one that was coloured.

    Raises:
        TypeError: made for another quantity.
        ColoringError: (a ValueError) made for another function or shape.
    """
    if coloring.kind != kind:
        names = [name for name, serves in KINDS.items() if serves == kind]
        raise TypeError(
            f"{quantity}: this colouring was made for {coloring.quantity!r}; make one with "
            f"jacreg.color(fn, xs, quantity={names[0]!r})."
        )
    if (lin.inputs.shapes, lin.outputs.shapes) != (coloring.in_shapes, coloring.out_shapes):
        raise ColoringError(
            f"{quantity}: the colouring was made for shapes {coloring.in_shapes} -> "
            f"{coloring.out_shapes} an example, got {lin.inputs.shapes} -> "
            f"{lin.outputs.shapes}; make a new one with jacreg.color."
        )
    key = (coloring.digest, structural_key(lin))
    return _CHECKED.get(key, lambda: _compare(quantity, coloring, lin))


def _compare(quantity: str, coloring: Coloring, lin: Linearization) -> Relation:
    try:
        program = linear_program(lin)
    except LengthError as error:
        raise ColoringError(unreadable(quantity, error)) from error
    if is_symbolic(lin.num_examples):
        # JAX may write the program of a symbol otherwise: that the plan fits is what counts.
        relation, _ = relation_in(program)
        if fits(coloring, relation):
            return relation
        raise ColoringError(
            f"{quantity}: the batch's length is a symbol here (jax.export), and entries of one "
            "colour may meet in the function as it is read then; export with Exact(), or with a "
            "batch of a known length."
        )
    found = fingerprint(program)
    if found == coloring.fingerprint:
        return coloring.relation
    same_batch = lin.num_examples == coloring.num_examples
    if found.structure == coloring.fingerprint.structure and (
        not same_batch or found.sizes == coloring.fingerprint.sizes
    ):
        relation, _ = relation_in(program)
        if fits(coloring, relation):
            return relation
        reason = _unfitting(program)
    else:
        reason = "its traced derivative has other operations"
    raise ColoringError(
        f"{quantity}: this colouring was made for another function ({reason}); make a new one "
        "with jacreg.color(fn, xs) for the function that is linearised."
    )


def unreadable(who: str, error: Exception) -> str:
    """Why the program of a batch whose length is a symbol has no colours."""
    return (
        f"{who}: the function cannot be read ({error}); export with Exact(), Hutchinson(...) or "
        "Projection(...), or with a batch of a known length."
    )


def _unfitting(program: LinearProgram) -> str:
    """Why a plan does not fit a function of the same operations."""
    avals = (variable.aval for variable in program.closed.jaxpr.invars[: program.first_tangent])
    for aval, value in zip(avals, program.values, strict=True):
        if value is None and is_structural(aval.dtype):
            return (
                "integers or booleans that may choose its entries are traced here, so that they "
                "cannot be compared with those it was made with: let the function close over them "
                "as concrete arrays, or colour it with jax.ShapeDtypeStruct for arguments"
            )
    return "its indices or sizes let entries of one colour meet"


def fits(coloring: Coloring, relation: Relation) -> bool:
    """Whether a plan keeps apart what a function's own dependence says may meet."""
    if coloring.is_dense:
        return True
    own = coloring.relation
    # The usual case: nothing but the batch axis changed.
    if [(f.axes, f.inputs) for f in own.factors] == [
        (f.axes, f.inputs) for f in relation.factors
    ] and all(
        f.matrix.shape == g.matrix.shape and g.matrix.contains(f.matrix)
        for f, g in zip(relation.factors, own.factors, strict=True)
    ):
        return True
    if relation.entries > _MOST_ENTRIES:
        return False
    matrix = relation.matrix()
    colors = coloring.colors
    if coloring.kind == "diagonal":
        row, column = matrix.entries
        return not bool(((colors[row] == colors[column]) & (row != column)).any())
    if coloring.reverse:
        matrix = matrix.T
    row, column = matrix.entries
    shape = (matrix.shape[0], coloring.num_colors)
    return Boolean.of_entries(row, colors[column], shape).nnz == matrix.nnz
