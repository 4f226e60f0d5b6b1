"""Algorithms for one matrix, run on every example of a batch of Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    Batched = Callable[[Float[Array, "N n"]], Float[Array, "N m"]]
    Single = Callable[[Float[Array, " n"]], Float[Array, " m"]]

_AXIS = "jacreg_examples"


def for_each_example(one: Callable[..., Any], *batches: Any) -> Any:
    """`jax.vmap(one)(*batches)`, inside which `as_single` products may be used.

    The vmap over examples has a name, so that a product gathers the vectors of all examples,
    multiplies them as one batch, and hands each example its own row: an algorithm that sees one
    vector of one example costs as many products of the batch as it has products.
    """
    return jax.vmap(one, axis_name=_AXIS)(*batches)


def as_single(product: Batched) -> Single:
    """The product of one example's vector, from that of the batch, inside `for_each_example`."""

    def single(vector: Float[Array, " n"]) -> Float[Array, " m"]:
        return product(jax.lax.all_gather(vector, _AXIS))[jax.lax.axis_index(_AXIS)]

    return single


def as_single_with_transpose(product: Batched, transpose: Batched) -> Single:
    """The same, whose `jax.vjp` is `transpose`, at the cost of one product of the batch too.

    Without it the transpose of the gathering would be a product for every example apart. What
    the products close over is not differentiated.
    """
    forward, backward = as_single(product), as_single(transpose)
    single = jax.custom_vjp(forward)
    single.defvjp(
        lambda vector: (forward(vector), None), lambda _, cotangent: (backward(cotangent),)
    )
    return single


def import_matfree(who: str) -> tuple[Any, Any]:
    """matfree's `stochtrace` and `decomp`.

    Raises:
        ImportError: it is not installed, an optional dependency.
    """
    try:
        from matfree import decomp, stochtrace
    except ImportError as error:
        raise ImportError(
            f'{who} works through matfree, which is not installed: pip install "jacreg[traces]".'
        ) from error
    return stochtrace, decomp
