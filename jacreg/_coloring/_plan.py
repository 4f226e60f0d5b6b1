"""From a relation to colours: axis by axis where it is a product, jointly where that is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from .._dependence import Factor
from .._dependence._boolean import Boolean, ones
from .._dependence._pattern import join, with_axes, with_inputs
from ._greedy import color_graph, without_diagonal
from ._joint import fold, folded, joint_colors, may_save
from ._relation import Relation

# A joint graph beyond this many edges is not coloured by first fit: the product serves.
MOST_EDGES = 12_000_000
# Pairs of positions that one output sees together, of several axes at once, that are looked at.
_MOST_PAIRS = 1 << 26


@dataclass(frozen=True)
class Plan:
    """Colours of the entries of one side of a Jacobian.

    Attributes:
        colors: `[prod(in)]`, or `[prod(out)]` where `reverse`.
        num_colors: how many there are.
        reverse: whether the outputs are coloured, for J^T u.
        how: the construction, in words.
        groups: axes that are coloured by themselves, each with the colours of the positions
            along them; two that share a colour in every group do not see each other.
    """

    colors: np.ndarray
    num_colors: int
    reverse: bool
    how: str
    groups: tuple[tuple[tuple[int, ...], np.ndarray], ...] = ()


def plan_kind(
    kind: str,
    relation: Relation,
    *,
    forward: bool = True,
    has_reverse: Callable[[], bool] = lambda: True,
    most_edges: int = MOST_EDGES,
) -> Plan:
    """Colours for a "diagonal", or for all "columns".

    Args:
        kind: which.
        relation: which entries of the Jacobian may differ from zero.
        forward, has_reverse: as for `plan_columns`.
        most_edges: as for `plan_diagonal`.
    """
    if kind == "diagonal":
        return plan_diagonal(relation, reverse=not forward, most_edges=most_edges)
    return plan_columns(relation, forward=forward, has_reverse=has_reverse)


def plan_diagonal(
    relation: Relation, *, reverse: bool = False, most_edges: int = MOST_EDGES
) -> Plan:
    """Colours for the diagonal: no two entries of one colour see each other.

    That is symmetric, so the same colours serve J^T u where there is no J v. Axes are coloured one
    by one, which takes no time, and jointly too where that may need fewer, but not with more than
    `most_edges` pairs that see each other.
    """
    parts = _square_parts(relation)
    graphs = [without_diagonal(f.matrix | f.matrix.T) for f in parts]
    groups = [(f.inputs, graph) for f, graph in zip(parts, graphs, strict=True)]
    plan = _product_colors(relation.in_shape, groups)
    if plan.num_colors > 2:
        plan = _with_joint(plan, relation.in_shape, parts, graphs, most_edges)
    return replace(plan, reverse=reverse)


def plan_columns(
    relation: Relation, *, forward: bool = True, has_reverse: Callable[[], bool] = lambda: True
) -> Plan:
    """Colours for the whole Jacobian: no output sees two inputs of one colour.

    Inputs (for J v) or outputs (for J^T u), whichever needs fewer among the directions
    that the function has; inputs on a tie.

    Args:
        relation: which entries of the Jacobian may differ from zero.
        forward: whether there is J v.
        has_reverse: whether there is J^T u; called only where it would need fewer.
    """
    transposed = relation.transposed()
    if not forward:
        return replace(_disjoint(transposed), reverse=True)
    plan = _disjoint(relation)
    if _least(transposed) >= plan.num_colors:
        return plan
    turned = replace(_disjoint(transposed), reverse=True)
    return turned if turned.num_colors < plan.num_colors and has_reverse() else plan


def _least(relation: Relation) -> int:
    """Colours that are needed at least: as many inputs as one output sees."""
    return prod(int(f.matrix.counts.max(initial=0)) for f in relation.factors)


def _disjoint(relation: Relation) -> Plan:
    return _product_colors(relation.in_shape, column_graphs(relation))


def diagonal_graphs(relation: Relation) -> list[tuple[tuple[int, ...], Any]]:
    """Groups of axes, each with the graph of the positions along it that see each other."""
    return [(f.inputs, without_diagonal(f.matrix | f.matrix.T)) for f in _square_parts(relation)]


def column_graphs(relation: Relation) -> list[tuple[tuple[int, ...], Any]]:
    """Groups of input axes, each with the graph of the positions that one output sees together."""
    graphs = []
    for f in relation.factors:
        # A factor without inputs only switches outputs off.
        if not f.inputs:
            continue
        counts, width = f.matrix.counts.astype(np.int64), f.matrix.shape[1]
        pairs = min(int((counts**2).sum()), width**2)
        if len(f.inputs) > 1 and (counts.max(initial=0) == width or pairs > _MOST_PAIRS):
            # All together see each other, or are taken to: so do those along each axis.
            sizes = ((a, relation.in_shape[a]) for a in f.inputs)
            graphs += (((a,), without_diagonal(ones(n, n))) for a, n in sizes)
        else:
            graphs.append((f.inputs, _seen_together(f.matrix)))
    return graphs


def _seen_together(matrix: Boolean) -> Boolean:
    # Rows that are the same say the same: one that sees all says it all.
    full = np.flatnonzero(matrix.counts == matrix.shape[1])
    matrix = matrix[full[:1]] if full.size else matrix
    return without_diagonal(matrix.T @ matrix)


def _square_parts(relation: Relation) -> list[Factor]:
    """Factors whose output and input axes are the same ones, merged until they are."""
    groups: list[set[int]] = []
    for f in relation.factors:
        axes = set(f.axes) | set(f.inputs)
        joined = [g for g in groups if g & axes]
        groups = [g for g in groups if not g & axes] + [axes.union(*joined)]
    parts = []
    for group in groups:
        axes = tuple(sorted(group))
        inside = [f for f in relation.factors if (set(f.axes) | set(f.inputs)) & group]
        joined = with_axes(relation.out_shape, join(inside), axes)
        parts.append(with_inputs(relation.in_shape, joined, axes))
    return parts


def _product_colors(shape: tuple[int, ...], groups: list[tuple[tuple[int, ...], Any]]) -> Plan:
    """Colour each group of axes by itself; a position's colour is the tuple of them.

    Two positions that differ see each other only if they do in every factor, so one
    factor in which they differ and share a colour keeps them apart.
    """
    colors = [color_graph(graph) for _, graph in groups]
    return combine(shape, [axes for axes, _ in groups], colors)


def combine(shape: tuple[int, ...], groups: list[tuple[int, ...]], local: list[np.ndarray]) -> Plan:
    """The tuples of the colours that each group of axes has by itself, numbered."""
    total, counts = np.zeros(shape, dtype=np.int64), []
    for axes, colors in zip(groups, local, strict=True):
        count = int(colors.max(initial=-1)) + 1
        turned = colors.reshape([shape[a] for a in axes]).transpose(np.argsort(axes))
        turned = turned.reshape([shape[a] if a in axes else 1 for a in range(len(shape))])
        total = total * max(count, 1) + turned
        counts.append(max(count, 1))
    # An input that nothing sees has a graph without edges: one colour, still a product.
    used, colors = np.unique(total.reshape(-1), return_inverse=True)
    single = len(groups) > 1 and all(len(axes) == 1 for axes in groups)
    how = ("lattice " if single else "greedy ") + " x ".join(map(str, counts))
    by_group = tuple(zip(groups, local, strict=True))
    return Plan(colors.astype(np.int32), int(used.size), False, how, by_group)


def _with_joint(
    plan: Plan, shape: tuple[int, ...], parts: list[Factor], graphs: list[Boolean], most_edges: int
) -> Plan:
    """The plan, or one that colours the axes along which not all see all together."""
    size = [f.matrix.shape[0] for f in parts]
    mixed = [graph.nnz == n * (n - 1) for graph, n in zip(graphs, size, strict=True)]
    local = [f for f, all_see in zip(parts, mixed, strict=True) if not all_see]
    folds = [fold(f.matrix) if len(f.axes) == 1 else np.arange(f.matrix.shape[0]) for f in local]
    near = [graph for graph, all_see in zip(graphs, mixed, strict=True) if not all_see]
    own = {axes: int(colors.max(initial=0)) + 1 for axes, colors in plan.groups}
    counts = [own[f.inputs] for f in local]
    if len(local) < 2 or not may_save([f.matrix for f in local], near, counts, folds):
        return plan
    matrices = [folded(f.matrix, each) for f, each in zip(local, folds, strict=True)]
    if prod(m.nnz for m in matrices) > most_edges:
        return replace(plan, how=f"{plan.how}, too large for fewer by all axes jointly")
    axes = sum((f.inputs for f in local), ())
    others = [f for f, all_see in zip(parts, mixed, strict=True) if all_see]
    joint = combine(
        shape,
        [axes, *(f.inputs for f in others)],
        [joint_colors(matrices, folds), *(np.arange(f.matrix.shape[0]) for f in others)],
    )
    return min(plan, joint, key=lambda each: each.num_colors)
