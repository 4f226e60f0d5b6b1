"""The trace of a Jacobian that is a sum of chains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from operator import mul
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._choice import Choice, program_cost
from .._linearize import Linearization
from ._as_program import as_program
from ._chain import Chain
from ._cycle import Cycle
from ._dense import Sides, shared_trace, shares_products, sides, trace_by_rows
from ._local import local_trace
from ._read import finest_precision, read_chains
from ._twins import first_twins

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def trace_by_closed_form(lin: Linearization, method: Any, limit: float) -> Choice:
    """Way of `divergence`: the trace of a Jacobian that is a sum of short chains.

    A network of linear layers and elementwise functions has the Jacobian
    W_k D_{k-1} ... D_1 W_1, of which only the diagonal matrices D differ from example to
    example. The trace is a sum over closed ways through the layers: they may begin at any of
    them, and what lies between two diagonals is the same for all examples. So the trace is
    exact without one product a dimension or a colour.

    Read here: convolutions of stride 1 in any layout, matrices applied to the channels, sums of
    a few such chains (a residual connection, the Hessian of an energy), channels beside others (a
    time, a condition, a skip connection) or a part of them, networks of one example under vmap.
    Up to three convolutions, four with three diagonals between them, and any number of matrices.

    Raises:
        Unfit: the program is no such sum.
    """
    program = as_program(lin, _total)
    return Choice(
        "closed form",
        0,
        "linear layers with elementwise functions between them, whose closed ways give the trace",
        program_cost(program.jaxpr),
        lambda key: jex.jaxpr_as_fun(program)()[0],
    )


def _total(lin: Linearization) -> Float[Array, " N"]:
    chains, precision = read_chains(lin), finest_precision(lin)
    if precision is None:
        return _summed(lin, chains)
    # No product here is coarser than those of the layers.
    with jax.default_matmul_precision(precision.name.lower()):
        return _summed(lin, chains)


def _summed(lin: Linearization, chains: Sequence[Chain]) -> Float[Array, " N"]:
    total = jnp.zeros((lin.num_examples,), lin.inputs.dtype)
    by_rows, others = _sorted(chains)
    for chain in others:
        total = total + chain.weight * _trace(chain, lin.num_examples)
    if by_rows:
        twins = first_twins(lin, lambda again: jax.tree.leaves(_cut(read_chains(again))))
        guarded = any(chain.guarded for chain in by_rows)
        total = total + trace_by_rows(_cut(by_rows), twins, lin.num_examples, guarded=guarded)
    return total


def _sorted(chains: Sequence[Chain]) -> tuple[list[Chain], list[Chain]]:
    """Chains of matrices that take products of their own for each example, and all others."""
    by_rows = [
        chain
        for chain in chains
        if chain.layers and not (cycle := Cycle.of(chain)).dims and not shares_products(cycle)
    ]
    return by_rows, [chain for chain in chains if not any(chain is each for each in by_rows)]


def _cut(chains: Sequence[Chain]) -> list[Sides]:
    return [sides(Cycle.of(chain), chain.weight) for chain in _sorted(chains)[0]]


def _trace(chain: Chain, num_examples: int) -> Float[Array, " B"]:
    if not chain.layers:
        (factors,) = chain.diagonals
        if not factors:
            return jnp.full((1,), float(prod(chain.shapes[0])))
        diagonal = reduce(mul, factors)
        return jnp.sum(diagonal, axis=tuple(range(1, diagonal.ndim)))
    cycle = Cycle.of(chain)
    return local_trace(cycle, num_examples) if cycle.dims else shared_trace(cycle)
