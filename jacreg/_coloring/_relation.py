"""Which output entries of one example see which of its input entries."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from .._dependence import Factor, Operand, Pattern, whole
from .._dependence._boolean import Boolean, ones
from .._dependence._pattern import join, with_axes, with_inputs


@dataclass(frozen=True)
class Relation:
    """A product of boolean matrices: `factors` relate output axes to input axes."""

    out_shape: tuple[int, ...]
    in_shape: tuple[int, ...]
    factors: tuple[Factor, ...]
    rows_independent: bool = True

    @property
    def entries(self) -> int:
        """How many entries of the dense Jacobian may differ from zero."""
        covered = {a for f in self.factors for a in f.axes}
        idle = prod(n for a, n in enumerate(self.out_shape) if a not in covered)
        return idle * prod(f.matrix.nnz for f in self.factors)

    def matrix(self) -> Boolean:
        """The relation as one matrix `[prod(out), prod(in)]`."""
        axes, inputs = tuple(range(len(self.out_shape))), tuple(range(len(self.in_shape)))
        joined = join(self.factors)
        return with_inputs(self.in_shape, with_axes(self.out_shape, joined, axes), inputs).matrix

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Which input entries some output entries see, `[k, prod(in)]`."""
        index = np.unravel_index(positions, self.out_shape) if self.out_shape else ()
        seen = np.ones((positions.size, *self.in_shape), bool)
        for f in self.factors:
            sizes = [self.out_shape[axis] for axis in f.axes]
            places = [index[axis] for axis in f.axes]
            row = np.ravel_multi_index(places, sizes) if places else np.zeros(positions.size, int)
            block = f.matrix[row].toarray().reshape((-1, *(self.in_shape[i] for i in f.inputs)))
            block = block.transpose((0, *(np.argsort(f.inputs) + 1)))
            shape = [n if i in f.inputs else 1 for i, n in enumerate(self.in_shape)]
            seen &= block.reshape((-1, *shape))
        return seen.reshape(positions.size, -1)

    def transposed(self) -> Relation:
        """Which input entries are seen by which output entries."""
        covered = {a for f in self.factors for a in f.axes}
        full = [
            *self.factors,
            *(
                Factor((a,), (), ones(n, 1))
                for a, n in enumerate(self.out_shape)
                if a not in covered
            ),
        ]
        turned = tuple(Factor(f.inputs, f.axes, f.matrix.T) for f in full)
        return Relation(self.in_shape, self.out_shape, turned, self.rows_independent)


def relation_of(
    outputs: list[Operand], in_shapes: list[tuple[int, ...]], reverse: bool
) -> Relation:
    """Relation of one example from what a linear program's outputs depend on.

    Args:
        outputs: the program's outputs, shapes `[N, *out]`.
        in_shapes: shapes `[N, *in]` of its tangents.
        reverse: the program maps cotangents back, so that its outputs are the inputs.

    Several leaves become one flat axis on either side.
    """
    if len(outputs) == 1 and len(in_shapes) == 1:
        relation = _single(_pattern(outputs[0], 0), outputs[0].shape, in_shapes[0])
    else:
        rows, columns, height, independent = [], [], 0, True
        for output in outputs:
            width = 0
            for leaf, in_shape in enumerate(in_shapes):
                part = _single(_pattern(output, leaf), output.shape, in_shape)
                independent = independent and part.rows_independent
                row, column = part.matrix().entries
                rows.append(height + row)
                columns.append(width + column)
                width += prod(in_shape[1:])
            height += prod(output.shape[1:])
        shape = (height, sum(prod(each[1:]) for each in in_shapes))
        matrix = Boolean.of_entries(np.concatenate(rows), np.concatenate(columns), shape)
        relation = Relation(
            matrix.shape[:1], matrix.shape[1:], (Factor((0,), (0,), matrix),), independent
        )
    return relation.transposed() if reverse else relation


def _pattern(output: Operand, leaf: int) -> Pattern | None:
    terms = output.dependence.get(leaf)
    return whole(terms) if terms else None


def _single(pattern: Pattern | None, shape: tuple[int, ...], in_shape: tuple[int, ...]) -> Relation:
    if pattern is None or pattern.is_empty:
        nothing = Factor(
            (), tuple(range(len(in_shape) - 1)),
            Boolean.of_entries([], [], (1, prod(in_shape[1:]))),
        )  # fmt: skip
        return Relation(shape[1:], in_shape[1:], (nothing,))
    factors, independent = [], False
    for f in pattern.factors:
        if 0 not in f.axes and 0 not in f.inputs:
            factors.append(f)
            continue
        own, only = _own_block(pattern, f)
        independent = independent or only
        factors.append(own)
    shifted = tuple(
        Factor(tuple(a - 1 for a in f.axes), tuple(i - 1 for i in f.inputs), f.matrix)
        for f in factors
        if f.axes or f.inputs or f.matrix.nnz == 0
    )
    return Relation(shape[1:], in_shape[1:], shifted, independent)


def _own_block(pattern: Pattern, factor: Factor) -> tuple[Factor, bool]:
    """What an example's outputs see of its own inputs, and whether that is all they see.

    Row n belongs to example n by the contract of `linearize`; what the program alone
    cannot show to be so is taken on trust (and checked by `rows_independent`).
    """
    axes = tuple(a for a in factor.axes if a != 0)
    inputs = tuple(i for i in factor.inputs if i != 0)
    has_axis, has_input = 0 in factor.axes, 0 in factor.inputs
    f = with_axes(pattern.shape, factor, ((0,) if has_axis else ()) + axes)
    f = with_inputs(pattern.in_shape, f, ((0,) if has_input else ()) + inputs)
    rows = pattern.shape[0] if has_axis else 1
    columns = pattern.in_shape[0] if has_input else 1
    height, width = f.matrix.shape[0] // max(rows, 1), f.matrix.shape[1] // max(columns, 1)
    seen, entry = f.matrix.entries
    own = np.ones(seen.size, bool)
    if has_axis and has_input:
        own = seen // max(height, 1) == entry // max(width, 1)
    places = (seen[own] % max(height, 1), entry[own] % max(width, 1))
    factor = Factor(axes, inputs, Boolean.of_entries(*places, (height, width)))
    return factor, has_axis and has_input and bool(own.all())
