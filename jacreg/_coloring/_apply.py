"""Diagonals, traces, norms and Jacobians from a colouring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from .._basis import FlatJacobian, map_chunked, sum_chunked
from .._exact import dense_jacobian, exact_diagonal, exact_squared, exact_trace
from .._linearize import Linearization
from .._memory import check_fits
from .._methods import Exact
from .._structure import accumulate_dtype, example_squared_norm
from ._check import check
from ._coloring import Coloring

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    from ._relation import Relation


def _product(flat: FlatJacobian, coloring: Coloring, color: Int[Array, ""]) -> Any:
    """Mask of a colour, and the product of the Jacobian with it."""
    side = flat.outputs if coloring.reverse else flat.inputs
    mask = (jnp.asarray(coloring.colors) == color).astype(side.dtype)
    vector = jnp.broadcast_to(mask, (flat.num_examples, side.size))
    return mask, (flat.vjp if coloring.reverse else flat.jvp)(vector)


def colored_diagonal(lin: Linearization, coloring: Coloring) -> Float[Array, "N n"]:
    """Diagonal as one flat vector an example, without checking the function again."""
    flat = FlatJacobian(lin)

    def part(color: Int[Array, ""]) -> Float[Array, "N n"]:
        mask, product = _product(flat, coloring, color)
        return mask * product

    return sum_chunked(part, coloring.num_colors, flat.chunk(coloring.chunk_size))


def diagonal(lin: Linearization, method: Coloring, key: Any) -> Any:
    """Row of `jacreg.diagonal`'s table."""
    check("diagonal", "diagonal", method, lin)
    if method.is_dense:
        return exact_diagonal(lin, Exact(method.chunk_size), key)
    return lin.outputs.unflatten(colored_diagonal(lin, method))


def trace(lin: Linearization, method: Coloring, key: Any) -> Float[Array, " N"]:
    """Row of `jacreg.divergence`'s table."""
    check("divergence", "diagonal", method, lin)
    if method.is_dense:
        return exact_trace(lin, Exact(method.chunk_size), key)
    flat = FlatJacobian(lin)
    wide = accumulate_dtype(flat.outputs.dtype)

    def part(color: Int[Array, ""]) -> Float[Array, " N"]:
        mask, product = _product(flat, method, color)
        return jnp.sum(mask.astype(wide) * product.astype(wide), axis=1)

    total = sum_chunked(part, method.num_colors, flat.chunk(method.chunk_size))
    return total.astype(flat.outputs.dtype)


def frobenius_squared(lin: Linearization, method: Coloring, key: Any) -> Float[Array, " N"]:
    """Row of `jacreg.frobenius_squared`'s table."""
    check("frobenius_squared", "columns", method, lin)
    if method.is_dense:
        return exact_squared(lin, Exact(method.chunk_size), key)
    flat = FlatJacobian(lin)
    return sum_chunked(
        lambda color: example_squared_norm(_product(flat, method, color)[1]),
        method.num_colors,
        flat.chunk(method.chunk_size),
    )


def jacobian(flat: FlatJacobian, method: Coloring, chunk_size: int | None) -> Float[Array, "N M n"]:
    """Row of `jacreg.jacobian`'s table: products spread to the entries they hold."""
    relation = check("jacobian", "columns", method, flat.lin)
    if method.is_dense:
        return dense_jacobian(flat, chunk_size or method.chunk_size)
    check_fits(
        "jacobian",
        "the dense Jacobian",
        (flat.num_examples, flat.outputs.size, flat.inputs.size),
        flat.outputs.dtype,
        "Take fewer examples at once, or ask for what needs products alone: frobenius_squared, "
        "divergence or gram.",
    )
    compressed = map_chunked(
        lambda color: _product(flat, method, color)[1],
        jnp.arange(method.num_colors),
        flat.chunk(chunk_size or method.chunk_size),
    )
    # [colors, N, other side] -> [N, other side, coloured side]
    spread = jnp.moveaxis(compressed[jnp.asarray(method.colors)], 0, 2)
    allowed = _allowed(relation)
    if method.reverse:
        spread = jnp.swapaxes(spread, 1, 2)
    return jnp.where(allowed, spread, jnp.zeros((), spread.dtype))


def _allowed(relation: Relation) -> Bool[Array, "M n"]:
    """A relation as a dense mask; the Jacobian itself is as large for every example."""
    rows = np.unravel_index(np.arange(int(np.prod(relation.out_shape))), relation.out_shape)
    columns = np.unravel_index(np.arange(int(np.prod(relation.in_shape))), relation.in_shape)
    allowed = jnp.ones((rows[0].size if rows else 1, columns[0].size if columns else 1), bool)
    for f in relation.factors:
        row = _ravel(rows, f.axes, relation.out_shape, allowed.shape[0])
        column = _ravel(columns, f.inputs, relation.in_shape, allowed.shape[1])
        matrix = jnp.asarray(f.matrix.toarray())
        allowed = allowed & matrix[jnp.asarray(row)][:, jnp.asarray(column)]
    return allowed


def _ravel(index: Any, axes: Any, shape: Any, count: int) -> np.ndarray:
    if not axes:
        return np.zeros(count, dtype=np.int64)
    return np.asarray(np.ravel_multi_index([index[a] for a in axes], [shape[a] for a in axes]))
