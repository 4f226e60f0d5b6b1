"""Fewer colours than keep everything apart: classes in which what must meet meets from afar."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

import numpy as np

from .._dependence._boolean import Boolean
from ._greedy import color_graph
from ._plan import Plan, column_graphs, combine, diagonal_graphs, plan_kind
from ._relation import Relation

# How fast two positions of one class stop disturbing each other: as this power of the share of
# what they see in common. The paths through k layers between two positions spread like a random
# walk of k steps, so that what one sees of the other falls like a Gaussian of their distance, much
# faster than the overlap of their receptive fields. A choice of classes alone: none is biased.
_FALL = 8
# Beyond this many positions the overlap is not counted: all that see each other count alike.
_MOST_COUNTED = 4096
# Numbers of classes that are tried in a group of axes.
_MOST_TRIED = 24


def partial_plan(
    relation: Relation, kind: str, count: int, *, forward: bool, reverse: bool
) -> Plan:
    """At most `count` classes of the entries of one side of a Jacobian.

    The colours themselves where they suffice. Else each group of axes that `color` colours by
    itself gets a number of classes, so that their product is at most `count` and what meets in a
    class has as few paths in common as can be.

    Args:
        relation: which entries of the Jacobian may differ from zero.
        kind: "diagonal" or "columns".
        count: the most classes.
        forward: whether there is J v.
        reverse: whether there is J^T u.
    """
    exact = plan_kind(kind, relation, forward=forward, has_reverse=lambda: reverse)
    if kind == "diagonal":
        graphs = diagonal_graphs(relation)
    else:
        graphs = column_graphs(relation.transposed() if exact.reverse else relation)
    if exact.num_colors <= count:
        return exact
    shape = relation.out_shape if exact.reverse and kind == "columns" else relation.in_shape
    groups = [axes for axes, _ in graphs]
    tried = [_tries(graph, count) for _, graph in graphs]
    best = min(
        (choice for choice in product(*tried) if prod(c.count for c in choice) <= count),
        key=lambda choice: (prod(1 + c.disturbance for c in choice), prod(c.count for c in choice)),
    )
    plan = combine(shape, groups, [choice.classes for choice in best])
    how = f"{plan.how} classes of {exact.num_colors} colours"
    return replace(plan, reverse=exact.reverse, how=how)


class _Try:
    """One number of classes for a group of axes.

    Attributes:
        count: how many classes.
        classes: of each position.
        disturbance: what a position meets in its class, in the mean.
    """

    def __init__(self, graph: Boolean, weights: np.ndarray, count: int) -> None:
        self.classes, met = _spread(graph, weights, count)
        self.count = int(self.classes.max(initial=0)) + 1
        self.disturbance = 2 * met / max(len(self.classes), 1)


def _tries(graph: Boolean, most: int) -> list[_Try]:
    """Numbers of classes from one to as many as keep all of a group apart."""
    full = int(color_graph(graph).max(initial=-1)) + 1
    counts = np.unique(np.geomspace(1, max(full, 1), _MOST_TRIED).round().astype(int))
    if full <= _MOST_TRIED:
        counts = np.arange(1, full + 1)
    weights = _closeness(graph)
    return [_Try(graph, weights, int(c)) for c in counts if c <= most]


def _closeness(graph: Boolean) -> np.ndarray:
    """How much of what two neighbours in the graph see they have in common, an entry an edge."""
    size = graph.shape[0]
    if not 0 < size <= _MOST_COUNTED:
        return np.ones(graph.nnz, np.float32)
    near = graph.toarray().astype(np.float32) + np.eye(size, dtype=np.float32)
    common = near @ near
    return (common[graph.entries] / common.diagonal().max()) ** _FALL


def _spread(graph: Boolean, weights: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Each position in turn goes where it meets least, of equals where none has gone for longest.

    Along an axis of a convolution that is every `count`-th position.
    """
    size = graph.shape[0]
    classes = np.full(size, -1, dtype=np.int32)
    last = np.arange(-count, 0)
    met = 0.0
    for position in range(size):
        near = slice(graph.indptr[position], graph.indptr[position + 1])
        others = classes[graph.indices[near]]
        placed = others >= 0
        load = np.bincount(others[placed], weights[near][placed], minlength=count)
        least = np.flatnonzero(load <= load.min() * (1 + 1e-6))
        chosen = least[np.argmin(last[least])]
        met += float(load[chosen])
        classes[position], last[chosen] = chosen, position
    return np.unique(classes, return_inverse=True)[1].astype(np.int32), met
