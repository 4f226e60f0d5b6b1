"""The exact dense paths: one product for each row, column or diagonal entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from ._basis import FlatJacobian, first_direction, map_chunked, prefer_reverse, sum_chunked
from ._linearize import Linearization
from ._memory import check_fits
from ._methods import Exact
from ._sharding import is_spread
from ._side_by_side import all_basis_products
from ._structure import BatchStructure, example_squared_norm, example_sum

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


def dense_jacobian(flat: FlatJacobian, chunk_size: int | None = None) -> Float[Array, "N M n"]:
    """Rows or columns one after the other, as `[N, M, n]`.

    Raises:
        ValueError: it is larger than all the memory that there is.
    """
    check_fits(
        "jacreg",
        "the dense Jacobian",
        (flat.num_examples, flat.outputs.size, flat.inputs.size),
        flat.outputs.dtype,
        "Take fewer examples at once, or ask for what needs products alone: frobenius_squared with "
        "Projection() or Exact(chunk_size=...), gram, divergence, spectral_norm, or a Lanczos "
        "method for a determinant.",
    )
    chunk = flat.chunk(chunk_size)
    spread = is_spread(flat.lin.xs)

    def products(product: Any, one: Any, side: BatchStructure) -> Float[Array, "N k m"]:
        if spread:
            return jnp.moveaxis(map_chunked(one, jnp.arange(side.size), chunk), 0, 1)
        return all_basis_products(product, (flat.num_examples, side.size), side.dtype, chunk)

    def by_columns() -> Float[Array, "N M n"]:
        return jnp.swapaxes(products(flat.jvp, flat.column, flat.inputs), 1, 2)

    def by_rows() -> Float[Array, "N M n"]:
        return products(flat.vjp, flat.row, flat.outputs)

    # On a tie rows: they come in the order of the result.
    tie = flat.lin.mode == "both" and flat.outputs.size == flat.inputs.size
    return first_direction(
        flat.lin, by_columns, by_rows, reverse_first=tie or prefer_reverse(flat.lin)
    ).astype(flat.outputs.dtype)


def exact_diagonal(lin: Linearization, method: Exact, key: Any) -> PyTree:
    """Diagonal entry by entry, in the shape of the input."""
    del key
    flat = FlatJacobian(lin)

    def entry(product: Any) -> Any:
        return lambda i: jnp.take(product(i), i, axis=1)

    def by(product: Any) -> Float[Array, "N n"]:
        chunk = flat.chunk(method.chunk_size)
        return map_chunked(entry(product), jnp.arange(flat.inputs.size), chunk).T

    entries = first_direction(
        lin, lambda: by(flat.column), lambda: by(flat.row), reverse_first=lin.mode == "reverse"
    )
    return flat.outputs.unflatten(entries)


def exact_trace(lin: Linearization, method: Exact, key: Any) -> Float[Array, " N"]:
    """Sum of the diagonal's entries."""
    return example_sum(exact_diagonal(lin, method, key))


def exact_squared(lin: Linearization, method: Exact, key: Any) -> Float[Array, " N"]:
    """Squared norms of all rows or of all columns, summed."""
    del key
    flat = FlatJacobian(lin)
    chunk = flat.chunk(method.chunk_size)
    return first_direction(
        lin,
        lambda: sum_chunked(
            lambda i: example_squared_norm(flat.column(i)), flat.inputs.size, chunk
        ),
        lambda: sum_chunked(lambda i: example_squared_norm(flat.row(i)), flat.outputs.size, chunk),
        reverse_first=prefer_reverse(lin),
    )
