"""Refuse a colouring where it does not belong."""

from __future__ import annotations

import numpy as np

from .._linearize import Linearization
from ._coloring import KINDS, Coloring, ColoringError


def check(quantity: str, kind: str, coloring: Coloring, lin: Linearization) -> None:
    """Raise unless a colouring was made for this quantity and this function.

    The traced derivative must be the one that was coloured. Another batch size or other
    integer constants are read again and the plan is checked against what they allow.

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
    known = lin.checked_colorings
    if coloring.digest not in known:
        _compare(quantity, coloring, lin)
        known.add(coloring.digest)


def _compare(quantity: str, coloring: Coloring, lin: Linearization) -> None:
    from ._reading import fingerprint, linear_program

    program = linear_program(lin)
    found = fingerprint(program.closed)
    if found == coloring.fingerprint:
        return
    same_batch = lin.num_examples == coloring.num_examples
    if found.structure == coloring.fingerprint.structure and (
        not same_batch or found.sizes == coloring.fingerprint.sizes
    ):
        if fits(coloring, lin):
            return
        reason = "its indices or sizes let entries of one colour meet"
    else:
        reason = "its traced derivative has other operations"
    raise ColoringError(
        f"{quantity}: this colouring was made for another function ({reason}); make a new one "
        "with jacreg.color(fn, xs) for the function that is linearised."
    )


def fits(coloring: Coloring, lin: Linearization) -> bool:
    """Whether a plan keeps apart what a function's own dependence says may meet."""
    from ._reading import dependence_of

    relation, _, _ = dependence_of(lin)
    if coloring.is_dense:
        return True
    own = coloring.relation
    # The usual case: nothing but the batch axis changed.
    if [(f.axes, f.inputs) for f in own.factors] == [
        (f.axes, f.inputs) for f in relation.factors
    ] and all(
        f.matrix.shape == g.matrix.shape and (f.matrix > g.matrix).nnz == 0
        for f, g in zip(relation.factors, own.factors, strict=True)
    ):
        return True
    matrix = relation.matrix()
    colors = coloring.colors
    if coloring.kind == "diagonal":
        row, column = matrix.tocoo().coords
        return not bool(((colors[row] == colors[column]) & (row != column)).any())
    if coloring.reverse:
        matrix = matrix.T.tocsr()
    row, column = matrix.tocoo().coords
    seen = row.astype(np.int64) * coloring.num_colors + colors[column]
    return np.unique(seen).size == seen.size
