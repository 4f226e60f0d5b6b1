"""The fixed points of a cell on a batch, and what they took."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from .._checks import check_solver
from .._interpret import without_arrays
from .._structure import BatchStructure
from ._implicit import Program, rest
from ._solver import EquilibriumSolver

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    from .._typing import PyTree


class EquilibriumResult(NamedTuple):
    """The equilibria of a batch.

    Attributes:
        state: `[N, *state]` (or a pytree of such), z*, with implicit derivatives. Where
            `converged` is False it is the last finite point, a constant to derivatives.
        residual: `[N]`, norm(f(z*) - z*) / norm(f(z*)) at the last point that the solver tested.
        num_evaluations: `[N]`, of the cell before the example's solver stopped (NFE).
        converged: `[N]`, whether the residual reached the tolerance.

    Example:
        >>> import jax.numpy as jnp, jacreg.equilibrium
        >>> found = jacreg.equilibrium.solve(lambda zs: 0.5 * zs + 1, jnp.zeros((1, 1)))
        >>> found.state.round(), bool(found.converged[0])
        (Array([[2.]], dtype=float32), True)
    """

    state: PyTree
    residual: Float[Array, " N"]
    num_evaluations: Int[Array, " N"]
    converged: Bool[Array, " N"]


def solve(
    cell: Callable[..., Any],
    start: Float[Array, " N *state"],
    *args: PyTree,
    solver: EquilibriumSolver = EquilibriumSolver(),
) -> EquilibriumResult:
    """Solve z = cell(z, *args) for every example, differentiable by the implicit function theorem.

    Derivatives reach `args` and what the cell closes over, in forward and reverse mode and of
    any order; none reaches `start`. An example whose solver gave up adds nothing to them and
    spoils no other: nothing is raised at run time, and `converged` tells.

    Args:
        cell: `(z [N, *state], *args) -> [N, *state]`; row n of the output depends on row n of
            the input alone. A per-example cell is `jax.vmap(cell)`.
        start: `[N, *state]`, or a pytree of such, floating point: where to start.
        *args: further inputs of the cell, such as what an image injects.
        solver: the method and its tolerances.

    Returns:
        An `EquilibriumResult`.

    Raises:
        ValueError: the cell changes the shape of the state, or `start` has no batch axis.
        TypeError: the cell cannot be called, the state is not floating point, or `solver` is no
            `EquilibriumSolver`.

    Source: Bai, Kolter and Koltun 2019, Deep Equilibrium Models, theorem 1.

    Example:
        >>> import jax.numpy as jnp, jacreg.equilibrium
        >>> result = jacreg.equilibrium.solve(
        ...     lambda zs, xs: 0.5 * zs + xs, jnp.zeros((2, 1)), jnp.array([[1.0], [3.0]])
        ... )
        >>> result.state.ravel().round(2), result.converged.tolist()
        (Array([2., 6.], dtype=float32), [True, True])
    """
    check_solver(solver, EquilibriumSolver, 'EquilibriumSolver("iteration")')
    if not callable(cell):
        raise TypeError(
            "equilibrium.solve: cell must be a function, cell(zs, *args), got "
            f"{type(cell).__name__}."
        )
    start = jax.tree.map(jnp.asarray, start)
    _check_start(start)
    traced, found = jax.make_jaxpr(cell, return_shape=True)(start, *args)
    structure = BatchStructure.of(start)
    _check_cell(found, start)
    # Of n + 1 points in n dimensions some mixture is exact where the cell is affine; more points
    # leave the weights to the ridge, and stale ones are mixed in.
    memory = min(solver.memory, structure.size + 1) if solver.method == "anderson" else 1
    program = Program(without_arrays(traced.jaxpr), structure, solver, memory)
    state, residual, num_evaluations, converged = rest(program, list(traced.consts), args, start)
    return EquilibriumResult(state, residual, num_evaluations.astype(jnp.int32), converged > 0)


def _check_start(start: PyTree) -> None:
    leaves = jax.tree.leaves(start)
    if not leaves:
        raise ValueError("equilibrium.solve: start holds no array; pass the batch [N, *state].")
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"equilibrium.solve: start must be floating point, got {leaf.dtype}.")
        if leaf.ndim == 0 or leaf.shape[0] != leaves[0].shape[:1][0]:
            raise ValueError(
                "equilibrium.solve: every array of start must have the batch axis, [N, *state], "
                f"got shapes {[leaf.shape for leaf in leaves]}. For one example add an axis of 1."
            )


def _check_cell(found: Any, start: PyTree) -> None:
    same = jax.tree.structure(found) == jax.tree.structure(start)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(start), strict=True) if same else ()
    if same and all(a.shape == b.shape for a, b in pairs):
        return
    raise ValueError(
        "equilibrium.solve: the cell must keep the shape of its state: got "
        f"{_shapes(start)} -> {_shapes(found)}."
    )


def _shapes(tree: PyTree) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)
