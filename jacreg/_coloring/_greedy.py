"""Colourings of a graph: neighbours differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._dependence._boolean import Boolean

# Rounds of recolouring class by class; each can only keep or lower the count.
_ROUNDS = 12


def without_diagonal(matrix: Boolean) -> Boolean:
    """Edges of a graph from a symmetric matrix."""
    row, column = matrix.entries
    off = row != column
    return Boolean.of_entries(row[off], column[off], matrix.shape)


def color_graph(edges: Boolean) -> np.ndarray:
    """Colour the nodes so that no edge joins two of one colour; numbers from 0.

    First fit in natural order (optimal for the band of a convolution along one axis)
    and in order of falling degree, then iterated greedy (Culberson 1992): first fit
    again with the classes in another order never needs more colours.
    """
    count = edges.shape[0]
    if count == 0:
        return np.zeros(0, dtype=np.int32)
    degree = edges.counts
    if int(degree.max(initial=0)) == count - 1 and edges.nnz == count * (count - 1):
        return np.arange(count, dtype=np.int32)
    orders = [np.arange(count), np.argsort(-degree, kind="stable")]
    least = clique_bound(edges)
    found = [_first_fit(edges, order) for order in orders]
    best = min([*found, *_equal_runs(edges, least)], key=np.max)
    generator = np.random.default_rng(0)
    for round_number in range(_ROUNDS):
        if best.max() + 1 <= least:
            break
        best = _first_fit(edges, _by_class(best, round_number, generator))
    return best


def _equal_runs(edges: Boolean, least: int) -> list[np.ndarray]:
    """The place in its run, for as many runs of equal length as nodes allow that are in order.

    On a periodic axis first fit needs what is left over at the end for colours of their own.
    """
    count = edges.shape[0]
    row, column = edges.entries
    for runs in range(count // least, count // (2 * least), -1):
        starts = np.arange(runs) * count // runs
        number = np.searchsorted(starts, np.arange(count), side="right") - 1
        colors = (np.arange(count) - starts[number]).astype(np.int32)
        if not (colors[row] == colors[column]).any():
            return [colors]
    return []


def _by_class(colors: np.ndarray, round_number: int, generator: Any) -> np.ndarray:
    classes = int(colors.max()) + 1
    if round_number % 3 == 0:
        rank = np.arange(classes)[::-1]
    elif round_number % 3 == 1:
        rank = np.argsort(np.argsort(np.bincount(colors, minlength=classes)))
    else:
        rank = generator.permutation(classes)
    return np.argsort(rank[colors], kind="stable")


def _first_fit(edges: Boolean, order: np.ndarray) -> np.ndarray:
    indptr, indices = edges.indptr, edges.indices
    colors = np.full(edges.shape[0], -1, dtype=np.int32)
    most = int(edges.counts.max(initial=0)) + 2
    taken = np.full(most + 1, -1, dtype=np.int64)
    for step, node in enumerate(order):
        near = colors[indices[indptr[node] : indptr[node + 1]]]
        # Uncoloured neighbours are -1 and mark the spare last place.
        taken[near] = step
        colors[node] = np.argmax(taken[:most] != step)
    return colors


def clique_bound(edges: Boolean) -> int:
    """Size of a clique grown greedily around a node of highest degree."""
    start = int(np.argmax(edges.counts))
    neighbours = edges.indices[edges.indptr[start] : edges.indptr[start + 1]]
    clique = [start]
    candidates = set(map(int, neighbours))
    for node in sorted(candidates):
        if node in candidates:
            clique.append(node)
            near = edges.indices[edges.indptr[node] : edges.indptr[node + 1]]
            candidates &= set(map(int, near))
    return len(clique)
