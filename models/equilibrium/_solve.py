"""The fixed point of one example's cell, as Equinox modules are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from jacreg.equilibrium import EquilibriumResult, EquilibriumSolver
from jacreg.equilibrium import solve as solve_batch

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree


def solve(
    cell: Callable[[Any], Any],
    state: PyTree[Float[Array, "..."]],
    *,
    solver: EquilibriumSolver = EquilibriumSolver(),
) -> EquilibriumResult:
    """The fixed point of a cell for one example: `jacreg.equilibrium.solve` without a batch axis.

    Arguments:
      cell: z -> f(z), closing over the example and the parameters; derivatives reach both.
      state: where to start, a pytree of floating-point arrays.
      solver: the method and its tolerance.

    Returns: an `EquilibriumResult` of one example; under `jax.vmap`, of each.

    Raises: ValueError where the cell changes the shape of the state.
    """
    found = solve_batch(lambda batch: _batch(cell(_example(batch))), _batch(state), solver=solver)
    return _example(found)


def _batch(example: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[None], example)


def _example(batch: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[0], batch)
