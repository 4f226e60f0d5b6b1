"""The diagonal of a Jacobian that is a sum of chains of matrices."""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any

import jax.extend.core as jex
import jax.numpy as jnp

from .._choice import Choice, program_cost
from .._linearize import Linearization
from ._as_program import as_program
from ._chain import Chain, Unreadable
from ._cycle import Cycle
from ._examples import map_examples
from ._read import read_chains

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def diagonal_by_closed_form(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `diagonal`: entry i of W_k D_{k-1} ... D_1 W_1 is a closed way from i to i.

    Vectors alone: with one diagonal matrix between two layers it is D (W_1 * W_2^T)^T, one product
    of matrices for all examples; with more, rows are carried from both ends to the middle. Images
    have colours.

    Raises:
        Unfit: the program is no such sum.
    """
    program = as_program(lin, _total)
    return Choice(
        "closed form",
        0,
        "matrices with elementwise functions between them, whose closed ways give each entry",
        program_cost(program.jaxpr),
        lambda key: lin.outputs.unflatten(jex.jaxpr_as_fun(program)()[0]),
    )


def _total(lin: Linearization) -> Float[Array, "N n"]:
    chains = read_chains(lin)
    size = lin.inputs.size
    total = jnp.zeros((lin.num_examples, size), lin.inputs.dtype)
    for chain in chains:
        if chain.shapes[0] != (size,):
            raise Unreadable("spatial axes")
        if chain.guarded:
            raise Unreadable("a condition behind a layer")
        total = total + chain.weight * _diagonal(chain, lin.num_examples, total.dtype)
    return total


def _diagonal(chain: Chain, num_examples: int, dtype: Any) -> Float[Array, "B n"]:
    if not chain.layers:
        (factors,) = chain.diagonals
        return reduce(mul, factors) if factors else jnp.ones((1, *chain.shapes[0]), dtype)
    cycle = Cycle.of(chain)
    kernels = [layer.kernel for layer in cycle.layers]
    ends = cycle.diagonal(0)
    if len(kernels) == 1:
        return ends * jnp.diagonal(kernels[0])[None]
    if len(kernels) == 2:
        return ends * (cycle.diagonal(1) @ (kernels[0].T * kernels[1]))
    between = [cycle.diagonal(i) for i in range(1, len(kernels))]
    middle = len(kernels) // 2

    def one(rows: list[Any]) -> Float[Array, " n"]:
        there, back = kernels[0], kernels[-1].T
        for i in range(1, middle):
            there = (there * rows[i - 1][None]) @ kernels[i]
        for i in range(len(kernels) - 1, middle, -1):
            back = (back * rows[i - 1][None]) @ kernels[i - 1].T
        return jnp.sum(there * back * rows[middle - 1][None], axis=1)

    entries = kernels[0].shape[0] * max(kernel.shape[1] for kernel in kernels)
    return ends * map_examples(one, (between,), num_examples, entries)
