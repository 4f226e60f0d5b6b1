"""The fixed point of a cell, its residual, and what it took."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optimistix as optx

from .._nearest import unknown
from ._anderson import Anderson
from ._linear import TruncatedGMRES

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PyTree

_METHODS = ("anderson", "iteration")


@dataclasses.dataclass(frozen=True)
class EquilibriumSolver:
    """How a fixed point z = f(z) is found and differentiated.

    Attributes:
      method: "anderson" acceleration, or the plain "iteration".
      tolerance: on norm(f(z) - z) / norm(f(z)), for each example.
      max_steps: evaluations of the cell after which the solver gives up (its result says so).
      memory: past points that Anderson's method mixes; one more than the state has entries at
        most.
      backward_tolerance, backward_steps: of the linear solve (GMRES) of the backward pass, one
        product with the cell's Jacobian a step; where they are spent the gradient is what it has
        by then.

    Raises: ValueError for an unknown method or a value that is not positive and finite.
    """

    method: str = "anderson"
    tolerance: float = 1e-4
    max_steps: int = 50
    memory: int = 5
    backward_tolerance: float = 1e-5
    backward_steps: int = 40

    def __post_init__(self):
        if self.method not in _METHODS:
            raise unknown("equilibrium solver", self.method, _METHODS)
        names = ("tolerance", "max_steps", "memory", "backward_tolerance", "backward_steps")
        for name in names:
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} of an equilibrium solver must be positive, got {value}.")


class EquilibriumResult(NamedTuple):
    """The equilibrium of one example; under `jax.vmap`, of each.

    Attributes:
      state: z*, with implicit gradients.
      residual: norm(f(z*) - z*) / norm(f(z*)) at the last point that the solver tested.
      num_evaluations: of the cell in the forward solve (NFE).
      converged: whether the residual reached the tolerance. Where it is False the state is the
        last one, and its gradient that of an equilibrium which it is not.
    """

    state: PyTree[Float[Array, "..."]]
    residual: Float[Array, ""]
    num_evaluations: Int[Array, ""]
    converged: Bool[Array, ""]


def solve(
    cell: Callable[[Any], Any],
    state: PyTree[Float[Array, "..."]],
    *,
    solver: EquilibriumSolver = EquilibriumSolver(),
) -> EquilibriumResult:
    """The fixed point of a cell for one example, differentiable by the implicit function theorem.

    Arguments:
      cell: z -> f(z), closing over the example and the parameters; the gradient reaches both.
      state: where to start, a pytree of floating-point arrays.
      solver: the method and its tolerance.

    Returns: an `EquilibriumResult`. A solver that gives up does not raise: look at `converged`
    and `residual`.

    Raises: ValueError where the cell changes the shape of the state.
    """
    found, given = jax.eval_shape(cell, state), jax.eval_shape(lambda: state)
    if jax.tree.structure(found) != jax.tree.structure(given) or any(
        a.shape != b.shape for a, b in zip(*map(jax.tree.leaves, (found, given)), strict=True)
    ):
        raise ValueError(
            f"The cell of an equilibrium model must keep the shape of its state: got {given} -> "
            f"{found}."
        )
    # Of n + 1 points in n dimensions some mixture is exact where the cell is affine; more points
    # leave the weights to the ridge, and stale ones are mixed in.
    size = sum(leaf.size for leaf in jax.tree.leaves(given))
    memory = min(solver.memory, size + 1) if solver.method == "anderson" else 1
    gmres = TruncatedGMRES(solver.backward_tolerance, solver.backward_steps)
    solution = optx.fixed_point(
        lambda z, _: cell(z),
        Anderson(rtol=solver.tolerance, memory=memory),
        state,
        max_steps=solver.max_steps,
        adjoint=optx.ImplicitAdjoint(linear_solver=gmres),
        throw=False,
    )
    steps = solution.stats["num_steps"]
    residual = jax.lax.stop_gradient(solution.state.residual)
    return EquilibriumResult(solution.value, residual, steps, residual <= solver.tolerance)
