"""Colours of several axes together, for a diagonal: of a block of positions, which is repeated."""

from __future__ import annotations

from functools import reduce
from math import prod

import numpy as np

from .._dependence._boolean import Boolean, kron
from ._greedy import clique_bound, color_graph, without_diagonal

# Of the pairs that see each other along every axis, in one direction or the other along each, some
# do not see each other: half of those of causal convolutions, which need a third of the colours.
# With strides it is one in twenty, which saves one colour in a hundred or none.
_MOST_MEET = 0.9
# In images that are too small for blocks what their corners save counts; so few take no time.
_FEW = 128


def may_save(
    matrices: list[Boolean], graphs: list[Boolean], counts: list[int], folds: list[np.ndarray]
) -> bool:
    """Whether colours of all axes together may be fewer than the tuples of each axis' own.

    Args:
        matrices: along each axis which position sees which.
        graphs: of pairs of positions of which one sees the other.
        counts: colours that each took.
        folds: of each axis.
    """
    own = [m.entries for m in matrices]
    themselves = [int((row == column).sum()) for row, column in own]
    along_all = prod(g.nnz + n for g, n in zip(graphs, themselves, strict=True))
    seen = [m.nnz for m in matrices]
    both = prod(2 * n - g.nnz - i for n, g, i in zip(seen, graphs, themselves, strict=True))
    meet = 2 * prod(seen) - both
    if meet == along_all:
        # Then cliques multiply, so that the tuples are as few as can be where each axis' are.
        return any(n > clique_bound(g) for n, g in zip(counts, graphs, strict=True))
    is_small = all(_size(fold) == fold.size for fold in folds) and prod(map(len, folds)) <= _FEW
    return is_small or meet <= _MOST_MEET * along_all


def fold(matrix: Boolean) -> np.ndarray:
    """Which positions along an axis are taken for one: a period apart, so that none sees another.

    At a period of twice the reach and one, each position of a block sees any other one directly or
    round its end, never both. Of longer ones the first is taken at which the relation repeats: a
    multiple of the strides, and of a periodic axis a part of its length.
    """
    size = matrix.shape[0]
    row, column = matrix.entries
    keys, apart = row * size + column, np.abs(row - column)
    reach = int(apart.max(initial=0))
    for period in range(2 * reach + 1, size - reach):
        first = keys[np.maximum(row, column) < size - period]
        last = keys[np.minimum(row, column) >= period]
        if np.array_equal(first, last - period * (size + 1)):
            return np.arange(size) % period
    around = int(np.minimum(apart, size - apart).max(initial=0))
    for period in range(2 * around + 1, size // 2 + 1):
        turned = (row + period) % size * size + (column + period) % size
        if size % period == 0 and np.array_equal(np.sort(turned), keys):
            return np.arange(size) % period
    return np.arange(size)


def folded(matrix: Boolean, fold: np.ndarray) -> Boolean:
    """Which positions of a block see which, directly or round its end."""
    row, column = matrix.entries
    return Boolean.of_entries(fold[row], fold[column], (_size(fold), _size(fold)))


def joint_colors(matrices: list[Boolean], folds: list[np.ndarray]) -> np.ndarray:
    """Colours of the positions along all axes, those that are folded on each other alike.

    Two of these differ along an axis on which neither sees the other.
    """
    matrix = reduce(kron, matrices)
    colors = color_graph(without_diagonal(matrix | matrix.T))
    return colors.reshape(list(map(_size, folds)))[np.ix_(*folds)].reshape(-1)


def _size(fold: np.ndarray) -> int:
    return int(fold.max(initial=-1)) + 1
