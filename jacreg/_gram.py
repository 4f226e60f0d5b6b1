"""Products of two Jacobians without either of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from ._basis import FlatJacobian, map_chunked
from ._errors import DirectionError
from ._linearize import Linearization
from ._methods import check_count

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def gram(
    lin: Linearization, other: Linearization | None = None, *, chunk_size: int | None = None
) -> Float[Array, "N M1 M2"]:
    """J1 J2^T of each example, `[N, M, M]` with M = prod(out): by jvp after vjp.

    No Jacobian is formed: column k is J1 (J2^T e_k). Where J1 has no forward mode,
    inner products of rows give the same from two rows at a time.

    Args:
        lin: gives J1, `[N, M1, n]`.
        other: gives J2, `[N, M2, n]`; None means `lin` itself, J J^T.
        chunk_size: outputs at once; None means one at a time.

    Raises:
        ValueError: the two differ in batch or input shape.
    """
    other = lin if other is None else other
    left, right = FlatJacobian(lin), FlatJacobian(other)
    if (left.num_examples, left.inputs.shapes) != (right.num_examples, right.inputs.shapes):
        raise ValueError(
            "gram: both Jacobians must be taken at inputs of one shape, got "
            f"{left.inputs.describe()} with N={left.num_examples} and "
            f"{right.inputs.describe()} with N={right.num_examples}."
        )
    if chunk_size is not None:
        check_count("gram", "chunk_size", chunk_size)
    chunk = left.chunk(chunk_size or 1)
    outputs = jnp.arange(right.outputs.size)

    def column(index: Int[Array, ""]) -> Float[Array, "N M1"]:
        return left.jvp(right.row(index))

    def row_products(index: Int[Array, ""]) -> Float[Array, "N M1"]:
        cotangent_row = right.row(index)
        products = map_chunked(
            lambda i: jnp.sum(left.row(i) * cotangent_row, axis=1),
            jnp.arange(left.outputs.size),
            chunk,
        )
        return products.T

    try:
        columns = map_chunked(column, outputs, chunk)
    except DirectionError:
        columns = map_chunked(row_products, outputs, 1)
    return jnp.transpose(columns, (1, 2, 0))
