"""Products of two Jacobians without either of them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian, direction, map_chunked
from ._choice import PRODUCTS, Choice, Quantity, Unfit, product_cost
from ._jacobian import JACOBIAN
from ._linearize import Linearization, check_linearization
from ._memory import check_fits, known_size
from ._methods import Auto, Exact, Method
from ._side_by_side import all_basis_products
from ._structure import accumulate_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def gram(
    lin: Linearization, other: Linearization | None = None, method: Method = Auto()
) -> Float[Array, "N M1 M2"]:
    """J1 J2^T of each example, `[N, M1, M2]` with M = prod(out).

    `Exact()` forms no Jacobian: column k is J1 (J2^T e_k), by jvp after vjp, or row k is
    J2 (J1^T e_k) where only that is possible. Where neither function has a forward mode, inner
    products of rows give the same from two rows at a time; where neither has a reverse mode, the
    outer products (J1 e_i) (J2 e_i)^T are summed over the n inputs, a chunk at a time. `Auto()`
    holds the Jacobians and multiplies them where they are no larger than the result or than
    what is kept of the forward pass and that takes fewer operations: for J J^T half the products.

    Args:
        lin: gives J1, `[N, M1, n]`.
        other: gives J2, `[N, M2, n]`; None means `lin` itself, J J^T.
        method: `Auto()`, or `Exact(chunk_size)`, whose `chunk_size` bounds how many outputs (or
            inputs) are taken at once; None takes as many as what is kept of the forward pass.

    Raises:
        ValueError: the two differ in batch or input shape.
        TypeError: one is no Linearization, or the method does not give it.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.array([[3.0, 4.0]]), jnp.ones((1, 1)))
        >>> jacreg.gram(lin)
        Array([[[ 9., 12.],
                [12., 16.]]], dtype=float32)
    """
    if isinstance(other, Method):
        raise TypeError(f"gram: other must be a Linearization, got {other}; write method={other}.")
    if other is not None:
        check_linearization("gram", other, "other")
    return quantity(other).decide(lin, method).run(None)


def quantity(other: Linearization | None = None) -> Quantity:
    """The ways of J1 J2^T for one J2."""

    def flat(lin: Linearization) -> tuple[FlatJacobian, FlatJacobian]:
        left = FlatJacobian(lin)
        return left, left if other is None or other is lin else FlatJacobian(other)

    def check(name: str, lin: Linearization) -> None:
        _check_pair(*flat(lin))

    def by_products(lin: Linearization, method: Any, limit: float) -> Choice:
        return _by_products(*flat(lin), getattr(method, "chunk_size", None))

    def by_jacobians(lin: Linearization, method: Any, limit: float) -> Choice:
        return _by_jacobians(*flat(lin))

    return Quantity("gram", {Exact: by_products}, auto=(by_products, by_jacobians), check=check)


def _check_pair(left: FlatJacobian, right: FlatJacobian) -> None:
    if (left.num_examples, left.inputs.shapes) != (right.num_examples, right.inputs.shapes):
        raise ValueError(
            "gram: both Jacobians must be taken at inputs of one shape, got "
            f"{left.inputs.describe()} with N={left.num_examples} and "
            f"{right.inputs.describe()} with N={right.num_examples}."
        )
    check_fits(
        "gram",
        "the result",
        (left.num_examples, left.outputs.size, right.outputs.size),
        left.outputs.dtype,
        "Take fewer examples at once, or fewer outputs.",
    )


def _by_products(left: FlatJacobian, right: FlatJacobian, chunk_size: int | None) -> Choice:
    """By the directions that both have; the first that is possible takes the least memory."""
    one, two = left.lin, right.lin
    rows, columns = left.outputs.size, right.outputs.size
    first, second = product_cost(one), product_cost(two)
    run: Callable[[FlatJacobian, FlatJacobian, int], Array]
    if one.no_forward is None and two.no_reverse is None:
        run, count, cost = _columns, 2 * columns, columns * (first + second)
        reason = f"J v after J^T u for {columns} basis vectors"
    elif two.no_forward is None and one.no_reverse is None:
        run, count, cost = _rows, 2 * rows, rows * (first + second)
        reason = f"J v after J^T u for {rows} basis vectors"
    elif one.no_reverse is None and two.no_reverse is None:
        run, count, cost = _inner_products, columns * (1 + rows), columns * (second + rows * first)
        reason = "J^T u for pairs of basis vectors, as there is no forward mode"
    else:
        for each in (one, two):
            direction(each, reverse_first=False)  # raises where there is neither
        twice, size = left is not right, left.inputs.size
        run, count, cost = _outer_products, size * (1 + twice), size * (first + twice * second)
        reason = f"J v for {size} basis vectors, as there is no reverse mode"
    return Choice(
        PRODUCTS,
        count,
        reason,
        cost,
        lambda key: run(left, right, _chunk(left, right, chunk_size)).astype(left.outputs.dtype),
    )


def _entries_at_hand(left: FlatJacobian, right: FlatJacobian) -> int:
    """What is kept of the forward passes: as much again is no burden, a Jacobian may be."""
    pair = (left.lin,) if right is left else (left.lin, right.lin)
    return sum(prod(map(known_size, each.shape)) for lin in pair for each in lin.residuals)


def _chunk(left: FlatJacobian, right: FlatJacobian, chunk_size: int | None) -> int:
    if chunk_size is not None:
        return left.chunk(chunk_size)
    vector = max(1, known_size(left.num_examples) * max(left.inputs.size, left.outputs.size))
    return max(1, min(left.chunk(None), _entries_at_hand(left, right) // vector))


def _by_jacobians(left: FlatJacobian, right: FlatJacobian) -> Choice:
    """Both Jacobians, held because they are small, and their product."""
    examples, size = known_size(left.num_examples), left.inputs.size
    rows, columns = left.outputs.size, right.outputs.size
    held = examples * size * (rows if right is left else rows + columns)
    if held > max(_entries_at_hand(left, right), 2 * examples * rows * columns):
        raise Unfit("the Jacobian is larger than the result and than what is kept of the network")
    first = JACOBIAN.decide(left.lin, Auto())
    second = first if right is left else JACOBIAN.decide(right.lin, Auto())
    both = (first,) if right is left else (first, second)

    def run(key: Any) -> Float[Array, "N M1 M2"]:
        wide = accumulate_dtype(left.outputs.dtype)
        dense = [each.run(None).astype(wide) for each in both]
        product = jnp.einsum("nai,nbi->nab", dense[0], dense[-1], precision="highest")
        return product.astype(left.outputs.dtype)

    return Choice(
        first.path,
        sum(each.num_products for each in both),
        f"{first.why}, held and multiplied",
        sum(each.cost for each in both) + 2.0 * examples * size * rows * columns,
        run,
    )


def _columns(left: FlatJacobian, right: FlatJacobian, chunk: int) -> Float[Array, "N M1 M2"]:
    """Column k is J1 (J2^T e_k)."""
    if left.side_by_side and right.side_by_side:
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
