"""The public function: which way to take, and what is in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._checks import check_count
from .._flops import count_flops
from .._memory import check_fits, known_size
from ._arguments import as_arrays, check_output, directions, over_floats
from ._blocks import at, by_blocks, examples_run, length
from ._contract import contract
from ._features import features_of, forward_features
from ._plan import Plan, make_plan
from ._products import by_products
from ._read import read_uses, unread

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

# Entries that are in memory of one block of examples.
_BLOCK_ENTRIES = 1 << 24


def empirical_ntk(
    apply: Callable[[PyTree, PyTree], PyTree],
    params: PyTree,
    xs: Float[Array, "N1 *in"],
    others: Float[Array, "N2 *in"] | None = None,
    *,
    trace_outputs: bool = True,
    chunk_size: int | None = None,
) -> Float[Array, "N1 N2"]:
    """Empirical neural tangent kernel of `apply` at `params`.

    Theta[i, j] = sum_m <d f_m(x_i) / d params, d f_m(x_j) / d params>: the plain sum over
    the M outputs, not divided by M. With `trace_outputs=False` the full kernel
    Theta[i, j, a, b] = <d f_a(x_i) / d params, d f_b(x_j) / d params>.

    The Jacobian by a weight matrix or a convolution's kernel is the sum over positions (pixels,
    tokens; one of a dense layer) of inputs times cotangents, so Theta is made of inner products
    of inputs and of cotangents, or, where the positions are many, of the sums themselves. Which
    parameters enter such products alone is read from the program; for all others the Jacobian
    is formed. One backward pass an output gives all of it.

    The memory is bounded: what is held of the examples (inputs, cotangents, Jacobians) is
    made for as many at once as take 64 MiB in float32, two such blocks at a time. Where one
    example alone takes more than four times that, or the outputs are many, a vjp and the jvp
    after it give a column at a time. A network with one direction only (a custom VJP, a
    `while_loop`) takes the blocks, by that direction.

    Args:
        apply: `apply(params, xs) -> [N, *out]`, for any N, its rows independent.
        params: any pytree; leaves that are not floating point are ignored.
        xs: `[N1, *in]`, an array or a pytree of such; gathered where an explicit mesh splits it.
        others: `[N2, *in]`; None means `xs`, a symmetric kernel.
        trace_outputs: sum over the outputs, or keep them all.
        chunk_size: examples at once; None bounds the memory.

    Returns:
        `[N1, N2]`, or `[N1, N2, M, M]` with M = prod(out).

    Raises:
        TypeError: the outputs are not floating point, or no parameter is.
        ValueError: the outputs lose the batch axis, or differ for `xs` and `others`.

    Source: Jacot, Gabriel, Hongler 2018; structured derivatives as in Novak, Sohl-Dickstein,
    Schoenholz 2022, arXiv:2206.08720.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> xs = jnp.array([[1.0, 0.0], [3.0, 4.0]])
        >>> jacreg.empirical_ntk(lambda w, xs: xs @ w, jnp.ones((2, 1)), xs)
        Array([[ 1.,  3.],
               [ 3., 25.]], dtype=float32)
    """
    if chunk_size is not None:
        check_count("empirical_ntk", "chunk_size", chunk_size)
    floats, call = over_floats(apply, params)
    xs = as_arrays("xs", xs)
    symmetric = others is None
    others = xs if others is None else as_arrays("others", others)
    outputs = check_output(call, floats, xs, "xs")
    if outputs != (other_outputs := check_output(call, floats, others, "others")):
        raise ValueError(
            "empirical_ntk: apply must return outputs of one shape for xs and others, got "
            f"{outputs.describe()} and {other_outputs.describe()}."
        )
    n1, n2, m = known_size(length(xs)), known_size(length(others)), outputs.size
    if min(n1, n2, m) == 0:
        shape = (n1, n2) if trace_outputs else (n1, n2, m, m)
        return jnp.zeros(shape, outputs.dtype)

    check_fits(
        "empirical_ntk",
        "the kernel",
        (n1, n2) if trace_outputs else (n1, n2, m, m),
        outputs.dtype,
        "Take fewer examples at once" + ("." if trace_outputs else ", or trace_outputs=True."),
    )

    def rows(values: list[Array], batch: PyTree) -> Float[Array, "N M"]:
        return outputs.flatten(call(values, batch))

    reverse, forward = directions(rows, floats, xs)
    batches = {_kind(batch): batch for batch in (xs, others)}
    plans = {}
    for kind, batch in batches.items():
        closed = jax.make_jaxpr(rows)(floats, at(batch, slice(1)))
        # Programs of two shapes or dtypes have other products: Jacobians fit each other always.
        alike = reverse and len(batches) == 1
        reading = read_uses(closed, len(floats)) if alike else unread(closed, len(floats))
        plans[kind] = make_plan(reading, floats, m, n2, trace_outputs)
    plan = plans[_kind(xs)]
    block = chunk_size or max(1, min(_BLOCK_ENTRIES // max(plan.entries, 1), max(n1, n2)))
    if (
        reverse
        and forward
        and _products_are_cheaper(
            plan,
            count_flops(rows, floats, at(xs, slice(1))),
            (n1, n2),
            block,
            trace_outputs,
            symmetric,
        )
    ):
        kernel = by_products(rows, floats, xs, others, trace_outputs, chunk_size or 1)
    else:
        features = {
            kind: features_of(plans[kind], floats, at(batch, 0))
            if reverse
            else forward_features(rows, floats)
            for kind, batch in batches.items()
        }
        kernel = by_blocks(
            lambda batch: features[_kind(batch)](batch),
            partial(contract, traced=trace_outputs),
            xs,
            None if symmetric else others,
            block,
        )
    return kernel.astype(outputs.dtype)


def _kind(batch: PyTree) -> Any:
    """What the program of an example depends on: structure, shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(batch)
    return treedef, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)


def _products_are_cheaper(
    plan: Plan, one: int, counts: tuple[int, int], block: int, traced: bool, symmetric: bool
) -> bool:
    """Whether a vjp and a jvp for each column take fewer operations than blocks do.

    Args:
        plan: what is held of an example.
        one: operations of the network on one example.
        counts: examples of both sides.
        block: examples at once.
        traced, symmetric: of the kernel.
    """
    if plan.entries > 4 * _BLOCK_ENTRIES:
        return True
    n1, n2 = counts
    backward = 2 * plan.outputs * one
    blocks = plan.flops(n2, traced) * n1 * n2 + backward * examples_run(n1, n2, block, symmetric)
    return n2 * (backward + plan.outputs * n1 * 2 * one) < blocks
