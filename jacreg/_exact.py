"""The exact dense paths: one product for each row, column or diagonal entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ._basis import FlatJacobian, direction, map_chunked, prefer_reverse
from ._choice import PRODUCTS, Choice, product_cost
from ._linearize import Linearization
from ._long_loops import beside_value, keeps_loops
from ._memory import check_fits
from ._program import REVERSE
from ._side_by_side import all_basis_products, reduce_basis_products
from ._structure import BatchStructure, example_squared_norm, example_sum

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from ._typing import PyTree

# As many at once take little more time than one row and its forward pass.
_FEW_COLUMNS = 4


def dense_jacobian(flat: FlatJacobian, chunk_size: int | None = None) -> Float[Array, "N M n"]:
    """Rows or columns one after the other, as `[N, M, n]`.

    Raises:
        ValueError: it is larger than all the memory that there is.
    """
    check_dense_fits(flat)
    chunk = flat.chunk(chunk_size)

    def products(product: Any, one: Any, side: BatchStructure) -> Float[Array, "N k m"]:
        if not flat.side_by_side:
            return jnp.moveaxis(map_chunked(one, jnp.arange(side.size), chunk), 0, 1)
        return all_basis_products(product, (flat.num_examples, side.size), side.dtype, chunk)

    if dense_direction(flat.lin) == REVERSE:
        dense = products(flat.vjp, flat.row, flat.outputs)
    else:
        dense = jnp.swapaxes(products(flat.jvp, flat.column, flat.inputs), 1, 2)
    return dense.astype(flat.outputs.dtype)


def check_dense_fits(flat: FlatJacobian) -> None:
    """Raise a ValueError where the dense Jacobian is larger than all the memory that there is."""
    check_fits(
        "jacreg",
        "the dense Jacobian",
        (flat.num_examples, flat.outputs.size, flat.inputs.size),
        flat.outputs.dtype,
        "Take fewer examples at once, or ask for what needs products alone: frobenius_squared with "
        "Projection() or Exact(chunk_size=...), gram, divergence, spectral_norm, or a Lanczos "
        "method for a determinant.",
    )


def dense_direction(lin: Linearization) -> str:
    """The direction of the dense Jacobian; on a tie rows, which come in the result's order."""
    tie = lin.mode == "both" and lin.outputs.size == lin.inputs.size
    return direction(lin, reverse_first=(tie or prefer_reverse(lin)) and not _is_long(lin))


def exact_diagonal(lin: Linearization, chunk_size: int | None = None) -> PyTree:
    """Diagonal entry by entry, in the shape of the input."""
    flat = FlatJacobian(lin)
    reverse = _diagonal_direction(lin) == REVERSE

    def entry(i: Int[Array, ""]) -> Float[Array, " N"]:
        return jnp.take((flat.row if reverse else flat.column)(i), i, axis=1)

    def entries(products: Float[Array, "N k m"], i: Int[Array, " k"]) -> Float[Array, "N k"]:
        return products[:, jnp.arange(len(i)), i]

    return flat.outputs.unflatten(_reduced(flat, reverse, chunk_size, entry, entries))


def exact_trace(lin: Linearization, chunk_size: int | None = None) -> Float[Array, " N"]:
    """Sum of the diagonal's entries."""
    return example_sum(exact_diagonal(lin, chunk_size))


def exact_squared(lin: Linearization, chunk_size: int | None = None) -> Float[Array, " N"]:
    """Squared norms of all rows or of all columns, summed."""
    flat = FlatJacobian(lin)
    reverse = _norm_direction(lin) == REVERSE

    def one(i: Int[Array, ""]) -> Float[Array, " N"]:
        return example_squared_norm((flat.row if reverse else flat.column)(i))

    def several(products: Float[Array, "N k m"], i: Int[Array, " k"]) -> Float[Array, "N 1"]:
        return example_squared_norm(products)[:, None]

    return example_sum(_reduced(flat, reverse, chunk_size, one, several))


def _reduced(
    flat: FlatJacobian,
    reverse: bool,
    chunk_size: int | None,
    one: Callable[[Int[Array, ""]], Float[Array, " N"]],
    several: Callable[[Float[Array, "N k m"], Int[Array, " k"]], Float[Array, "N r"]],
) -> Float[Array, "N rs"]:
    """Numbers of an example, of each row or column by `one` or of some at once by `several`."""
    product, side = (flat.vjp, flat.outputs) if reverse else (flat.jvp, flat.inputs)
    chunk = flat.chunk(chunk_size)
    if not flat.side_by_side:
        return map_chunked(one, jnp.arange(side.size), chunk).T
    shape = (flat.num_examples, side.size)
    return reduce_basis_products(product, shape, side.dtype, chunk, several)


def _diagonal_direction(lin: Linearization) -> str:
    return direction(lin, reverse_first=lin.mode == "reverse")


def _norm_direction(lin: Linearization) -> str:
    return direction(lin, reverse_first=prefer_reverse(lin) and not _is_long(lin))


def _is_long(lin: Linearization) -> bool:
    """Whether a few more columns are better than rows: these keep every step of a long loop."""
    count = lin.inputs.size
    few = count <= max(lin.outputs.size, _FEW_COLUMNS)
    return lin.mode == "both" and few and keeps_loops(lin, count)


def diagonal_by_products(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `diagonal`: n products."""
    return _by_products(lin, method, _diagonal_direction(lin), exact_diagonal, lin.inputs.size)


def trace_by_products(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `divergence`: n products."""
    return _by_products(lin, method, _diagonal_direction(lin), exact_trace, lin.inputs.size)


def norm_by_products(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `frobenius_squared`: as many products as the smaller side has entries."""
    return _by_products(lin, method, _norm_direction(lin), exact_squared)


def jacobian_by_products(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `jacobian`: as many products as the smaller side has entries; `[N, M, n]`."""
    return _by_products(
        lin,
        method,
        dense_direction(lin),
        lambda lin, chunk_size: dense_jacobian(FlatJacobian(lin), chunk_size),
    )


def sparse_by_products(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of a sparse `jacobian` without a pattern: all rows, columns and entries `[N, M n]`."""
    dense = jacobian_by_products(lin, method, limit)

    def run(key: Any) -> tuple[np.ndarray, np.ndarray, Float[Array, "N k"]]:
        row, column = np.indices((lin.outputs.size, lin.inputs.size)).reshape(2, -1)
        return row, column, dense.run(key).reshape(lin.num_examples, row.size)

    return replace(dense, run=run)


def _by_products(
    lin: Linearization,
    method: Any,
    towards: str,
    compute: Callable[[Linearization, int | None], Any],
    count: int | None = None,
) -> Choice:
    if count is None:
        count = (lin.outputs if towards == REVERSE else lin.inputs).size
    chunk_size = getattr(method, "chunk_size", None)
    what = "J^T u" if towards == REVERSE else "J v"

    def run(key: Any) -> Any:
        if towards == REVERSE:
            return compute(lin, chunk_size)
        return compute(beside_value(lin, count, FlatJacobian(lin).chunk(chunk_size)), chunk_size)

    return Choice(
        PRODUCTS, count, f"{what} for {count} basis vectors", count * product_cost(lin), run
    )
