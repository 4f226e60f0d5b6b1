"""The trace of a Jacobian that is a sum of chains."""

from __future__ import annotations

from functools import reduce
from math import prod
from operator import mul
from typing import TYPE_CHECKING

import jax.numpy as jnp

from .._errors import DirectionError
from .._linearize import Linearization
from .._probes import is_spread
from ._chain import Chain, Cycle, Unreadable
from ._dense import dense_trace
from ._local import local_trace
from ._read import read_chains

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def chain_trace(lin: Linearization) -> Float[Array, " N"] | None:
    """Trace of each example's Jacobian, where that is a sum of short chains; None elsewhere.

    A network of linear layers and elementwise functions has the Jacobian
    W_k D_{k-1} ... D_1 W_1, of which only the diagonal matrices D differ from example to
    example. The trace is a sum over closed ways through the layers: they may begin at any of
    them, and what lies between two diagonals is the same for all examples. So the trace is
    exact without one product a dimension or a colour.

    Read here: convolutions of stride 1 in any layout, matrices applied to the channels, sums of
    a few such chains (a residual connection, the Hessian of an energy). Up to four convolutions
    with three diagonals between them, and any number of matrices.
    """
    if lin.mode == "reverse" or is_spread(lin.xs):
        return None
    try:
        total = jnp.zeros((lin.num_examples,), lin.inputs.dtype)
        for chain in read_chains(lin):
            total = total + chain.weight * _trace(chain, lin.num_examples)
        return total
    except (Unreadable, DirectionError):
        return None


def _trace(chain: Chain, num_examples: int) -> Float[Array, " B"]:
    if not chain.layers:
        (factors,) = chain.diagonals
        if not factors:
            return jnp.full((1,), float(prod(chain.shapes[0])))
        diagonal = reduce(mul, factors)
        return jnp.sum(diagonal, axis=tuple(range(1, diagonal.ndim)))
    cycle = Cycle.of(chain)
    return (local_trace if cycle.dims else dense_trace)(cycle, num_examples)
