"""Products of two Jacobians without either of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian, map_chunked
from ._errors import DirectionError
from ._exact import dense_jacobian
from ._linearize import Linearization
from ._memory import check_fits
from ._methods import check_count
from ._sharding import is_spread
from ._side_by_side import all_basis_products
from ._structure import accumulate_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def gram(
    lin: Linearization, other: Linearization | None = None, *, chunk_size: int | None = None
) -> Float[Array, "N M1 M2"]:
    """J1 J2^T of each example, `[N, M, M]` with M = prod(out): by jvp after vjp.

    No Jacobian is formed: column k is J1 (J2^T e_k), or row k is J2 (J1^T e_k) where only
    that is possible. Where neither function has a forward mode, inner products of rows give
    the same from two rows at a time; where neither has a reverse mode, the outer products
    (J1 e_i) (J2 e_i)^T are summed over the n inputs, a chunk at a time. For J J^T with a
    `chunk_size` of all M outputs, the M rows that are in memory at once anyway are multiplied
    with each other: half the products.

    Args:
        lin: gives J1, `[N, M1, n]`.
        other: gives J2, `[N, M2, n]`; None means `lin` itself, J J^T.
        chunk_size: outputs (or inputs) at once; None means one at a time.

    Raises:
        ValueError: the two differ in batch or input shape.
        TypeError: one is no Linearization.
    """
    for name, each in (("lin", lin), ("other", other)):
        if not isinstance(each, Linearization) and (name == "lin" or each is not None):
            raise TypeError(
                f"gram: {name} must be a Linearization, got {type(each).__name__}; make one with "
                "jacreg.linearize(fn, xs)."
            )
    left = FlatJacobian(lin)
    right = left if other is None or other is lin else FlatJacobian(other)
    if (left.num_examples, left.inputs.shapes) != (right.num_examples, right.inputs.shapes):
        raise ValueError(
            "gram: both Jacobians must be taken at inputs of one shape, got "
            f"{left.inputs.describe()} with N={left.num_examples} and "
            f"{right.inputs.describe()} with N={right.num_examples}."
        )
    if chunk_size is not None:
        check_count("gram", "chunk_size", chunk_size)
    check_fits(
        "gram",
        "the result",
        (left.num_examples, left.outputs.size, right.outputs.size),
        left.outputs.dtype,
        "Take fewer examples at once, or fewer outputs.",
    )
    chunk = left.chunk(chunk_size or 1)
    ways = (_columns, _rows, _inner_products, _outer_products)
    if left is right and left.outputs.size <= min(chunk, left.inputs.size):
        ways = (_held_rows, *ways)
    missing: list[DirectionError] = []
    for way in ways:
        try:
            return way(left, right, chunk).astype(left.outputs.dtype)
        except DirectionError as error:
            missing.append(error)
    raise missing[0]


def _held_rows(left: FlatJacobian, right: FlatJacobian, chunk: int) -> Float[Array, "N M M"]:
    """J J^T of one Jacobian whose rows may all be held at once: half the products."""
    rows = dense_jacobian(left, chunk)
    wide = rows.astype(accumulate_dtype(rows.dtype))
    return jnp.einsum("nai,nbi->nab", wide, wide, precision="highest")


def _columns(left: FlatJacobian, right: FlatJacobian, chunk: int) -> Float[Array, "N M1 M2"]:
    """Column k is J1 (J2^T e_k)."""
    if not is_spread(right.lin.xs):
        shape, dtype = (right.num_examples, right.outputs.size), right.outputs.dtype
        found = all_basis_products(lambda us: left.jvp(right.vjp(us)), shape, dtype, chunk)
        return jnp.swapaxes(found, 1, 2)

    def column(index: Int[Array, ""]) -> Float[Array, "N M1"]:
        return left.jvp(right.row(index))

    columns = map_chunked(column, jnp.arange(right.outputs.size), chunk)
    return jnp.transpose(columns, (1, 2, 0))


def _rows(left: FlatJacobian, right: FlatJacobian, chunk: int) -> Float[Array, "N M1 M2"]:
    """Row k is J2 (J1^T e_k): where J1 has only a reverse and J2 only a forward mode."""
    return jnp.swapaxes(_columns(right, left, chunk), 1, 2)


def _inner_products(left: FlatJacobian, right: FlatJacobian, chunk: int) -> Array:
    """Entry (j, k) is the inner product of row j of J1 and row k of J2: reverse mode alone."""

    def column(index: Int[Array, ""]) -> Float[Array, "N M1"]:
        row = right.row(index)
        products = map_chunked(
            lambda i: jnp.sum(left.row(i) * row, axis=1), jnp.arange(left.outputs.size), chunk
        )
        return products.T

    columns = map_chunked(column, jnp.arange(right.outputs.size), 1)
    return jnp.transpose(columns, (1, 2, 0))


def _outer_products(left: FlatJacobian, right: FlatJacobian, chunk: int) -> Array:
    """The sum over inputs of (J1 e_i) (J2 e_i)^T: forward mode alone, a chunk in memory."""
    count = left.inputs.size
    chunk = min(chunk, count)
    wide = accumulate_dtype(left.outputs.dtype)

    @jax.checkpoint
    def part(indices: Int[Array, " k"]) -> Float[Array, "N M1 M2"]:
        first = map_chunked(left.column, indices, chunk).astype(wide)
        second = first if right is left else map_chunked(right.column, indices, chunk).astype(wide)
        return jnp.einsum("kna,knb->nab", first, second)

    if count == 0:
        sizes = (left.num_examples, left.outputs.size, right.outputs.size)
        return jnp.zeros(sizes, left.outputs.dtype)
    indices = jnp.arange(count)
    whole = count // chunk * chunk
    # The first chunk gives the sum its sharding, and the last may be shorter.
    total = part(indices[:chunk])
    further = indices[chunk:whole].reshape(-1, chunk)
    total, _ = jax.lax.scan(lambda sum_, i: (sum_ + part(i), None), total, further)
    return total if whole == count else total + part(indices[whole:])
