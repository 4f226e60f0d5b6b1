"""Diagonals, traces, norms and Jacobians from a colouring."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from .._basis import FlatJacobian, map_chunked, sum_chunked
from .._choice import Choice, product_cost
from .._exact import (
    check_dense_fits,
    diagonal_by_products,
    jacobian_by_products,
    norm_by_products,
    sparse_by_products,
    trace_by_products,
)
from .._linearize import Linearization
from .._long_loops import beside_value
from .._methods import Exact
from .._structure import accumulate_dtype, example_squared_norm
from ._check import check
from ._coloring import Coloring

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Array, Float, Int

    from .._choice import Way
    from .._typing import PyTree
    from ._plan import Plan
    from ._relation import Relation

    Compute = Callable[[Linearization, Coloring | Plan, Relation], Any]
    Signs = Float[Array, "N k"] | None


def _product(
    flat: FlatJacobian, coloring: Coloring | Plan, color: Int[Array, ""], signs: Signs = None
) -> tuple[Float[Array, "N k"], Float[Array, "N m"]]:
    """Vectors that are zero outside of a colour, and the products of the Jacobians with them.

    Ones within it, or the signs that are given.
    """
    side = flat.outputs if coloring.reverse else flat.inputs
    mask = (jnp.asarray(coloring.colors, color.dtype) == color).astype(side.dtype)
    vector = jnp.broadcast_to(mask, (flat.num_examples, side.size))
    vector = vector if signs is None else signs * mask[None]
    return vector, (flat.vjp if coloring.reverse else flat.jvp)(vector)


def diagonal_by_colors(
    lin: Linearization, method: Coloring | Plan, relation: Relation | None, signs: Signs = None
) -> PyTree:
    """Diagonal in the shape of the input; with signs unbiased where colours do not suffice."""
    flat = FlatJacobian(lin)

    def part(color: Int[Array, ""]) -> Float[Array, "N n"]:
        vector, product = _product(flat, method, color, signs)
        return vector * product

    return lin.outputs.unflatten(sum_chunked(part, method.num_colors, flat.chunk(None)))


def trace_by_colors(
    lin: Linearization, method: Coloring | Plan, relation: Relation | None, signs: Signs = None
) -> Float[Array, " N"]:
    """Sum of the diagonal, a colour at a time."""
    flat = FlatJacobian(lin)
    wide = accumulate_dtype(flat.outputs.dtype)

    def part(color: Int[Array, ""]) -> Float[Array, " N"]:
        vector, product = _product(flat, method, color, signs)
        return jnp.sum(vector.astype(wide) * product.astype(wide), axis=1)

    return sum_chunked(part, method.num_colors, flat.chunk(None)).astype(flat.outputs.dtype)


def norm_by_colors(
    lin: Linearization, method: Coloring | Plan, relation: Relation | None, signs: Signs = None
) -> Float[Array, " N"]:
    """Squared Frobenius norm: no two entries of a colour meet, or signs make up for it."""
    flat = FlatJacobian(lin)
    return sum_chunked(
        lambda color: example_squared_norm(_product(flat, method, color, signs)[1]),
        method.num_colors,
        flat.chunk(None),
    )


def dense_by_colors(
    lin: Linearization, method: Coloring | Plan, relation: Relation
) -> Float[Array, "N M n"]:
    """Jacobian as `[N, M, n]`: products spread to the entries they hold."""
    flat = FlatJacobian(lin)
    check_dense_fits(flat)
    compressed = _compressed(flat, method)
    # [colors, N, other side] -> [N, other side, coloured side]
    spread = jnp.moveaxis(compressed[jnp.asarray(method.colors)], 0, 2)
    allowed = jnp.asarray(relation.rows(np.arange(flat.outputs.size)))
    if method.reverse:
        spread = jnp.swapaxes(spread, 1, 2)
    return jnp.where(allowed, spread, jnp.zeros((), spread.dtype))


def entries_by_colors(
    lin: Linearization, method: Coloring | Plan, relation: Relation
) -> tuple[np.ndarray, np.ndarray, Float[Array, "N k"]]:
    """Rows, columns and values `[N, k]` of the entries that may differ from zero."""
    flat = FlatJacobian(lin)
    compressed = _compressed(flat, method)
    row, column = relation.matrix().entries
    colored, other = (row, column) if method.reverse else (column, row)
    return row, column, compressed[method.colors[colored], :, other].T


def _compressed(flat: FlatJacobian, method: Coloring | Plan) -> Float[Array, "colors N m"]:
    return map_chunked(
        lambda color: _product(flat, method, color)[1],
        jnp.arange(method.num_colors),
        flat.chunk(None),
    )


def by_colors(
    lin: Linearization, method: Coloring | Plan, relation: Relation, compute: Compute
) -> Choice:
    """The choice of a colouring that fits."""
    product = "J^T u" if method.reverse else "J v"

    def run(key: Any) -> Any:
        if method.reverse:
            return compute(lin, method, relation)
        beside = beside_value(lin, method.num_colors, FlatJacobian(lin).chunk(None))
        return compute(beside, method, relation)

    return Choice(
        "colouring",
        method.num_colors,
        f"{product} for {method.num_colors} colours, {method.how}",
        method.num_colors * product_cost(lin),
        run,
    )


def _dense(method: Coloring, products: Choice) -> Choice:
    through = f" through {', '.join(method.dense_because)}" if method.dense_because else ""
    return replace(products, reason=f"{products.why}: the colouring is dense{through}")


def _way(
    quantity: str,
    kind: str,
    by_products: Callable[[Linearization, Any, float], Choice],
    compute: Compute,
) -> Way:
    """Way of a quantity; a dense colouring takes products with basis vectors."""

    def way(lin: Linearization, method: Coloring, limit: float) -> Choice:
        relation = check(quantity, kind, method, lin)
        if method.is_dense:
            return _dense(method, by_products(lin, Exact(), limit))
        return by_colors(lin, method, relation, compute)

    return way


diagonal = _way("diagonal", "diagonal", diagonal_by_products, diagonal_by_colors)
trace = _way("divergence", "diagonal", trace_by_products, trace_by_colors)
frobenius_squared = _way("frobenius_squared", "columns", norm_by_products, norm_by_colors)
jacobian = _way("jacobian", "columns", jacobian_by_products, dense_by_colors)
sparse_jacobian = _way("jacobian", "columns", sparse_by_products, entries_by_colors)
