"""Fixed points with the derivatives of the implicit function theorem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .._convolution import as_products
from .._sharding import match_sharding
from .._structure import BatchStructure, accumulate_dtype
from ._anderson import Rest, fixed_points
from ._gmres import gmres
from ._solver import EquilibriumSolver

if TYPE_CHECKING:
    from jaxtyping import Array, Bool

    from .._typing import PyTree


@dataclass(frozen=True, eq=False)
class Program:
    """What is static about a solve: the traced cell, the form of its state, the solver."""

    jaxpr: Any
    structure: BatchStructure
    solver: EquilibriumSolver
    memory: int

    def cell(self, consts: list[Any], args: PyTree, state: PyTree) -> PyTree:
        """Evaluate the cell."""
        flat = jax.tree.leaves((state, args))
        program = jex.jaxpr_as_fun(jex.ClosedJaxpr(self.jaxpr, consts))
        outs = as_products(program)(*flat)
        cast = [out.astype(dtype) for out, dtype in zip(outs, self.structure.dtypes, strict=True)]
        return jax.tree.unflatten(self.structure.treedef, cast)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def rest(
    program: Program, consts: list[Any], args: PyTree, start: PyTree
) -> tuple[PyTree, Array, Array, Array]:
    """Return state, residual, number of evaluations and convergence of each row.

    The last two as floating-point numbers too: tangents of integers have no sharding.
    """
    structure, solver = program.structure, program.solver
    dtype = accumulate_dtype(structure.dtype)

    def flat_cell(points: Array) -> Array:
        state = program.cell(consts, args, structure.unflatten(points))
        return structure.flatten(state).astype(dtype)

    found: Rest = fixed_points(
        flat_cell,
        structure.flatten(start).astype(dtype),
        tolerance=solver.tolerance,
        max_steps=solver.max_steps,
        memory=program.memory,
    )
    counted = found.num_evaluations.astype(dtype), found.converged.astype(dtype)
    return (structure.unflatten(found.points), found.residual, *counted)


def _implicit(program: Program, primals: Any, tangents: Any) -> Any:
    """dz* = (I - J)^-1 (df/dtheta) dtheta, in the rows that converged, and 0 in the others."""
    consts, args, start = primals
    found = rest(program, consts, args, start)
    state, converged = found[0], found[3] > 0
    # Where it gave up the cell is read at the start instead: at a point that grew without bound
    # its derivatives are not finite, and 0 times them is nan.
    point = _where(converged, state, jax.lax.stop_gradient(start))
    moved = _partial(program, point, (consts, args), tangents[:2])
    tangents = jax.tree.map(_zeros, found)
    if moved is None:
        return found, tangents
    return found, (_solved(program, consts, args, point, converged, moved), *tangents[1:])


rest.defjvp(_implicit, symbolic_zeros=True)


def _partial(program: Program, point: PyTree, given: Any, tangents: Any) -> PyTree | None:
    """Return the tangent of the cell's value at a fixed state; None where nothing moves."""
    leaves, tree = jax.tree.flatten(given)
    directions = jax.tree.leaves(tangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    moving = [i for i, each in enumerate(directions) if not isinstance(each, SymbolicZero)]
    if not moving:
        return None

    def value(*some: Any) -> PyTree:
        filled = list(leaves)
        for index, leaf in zip(moving, some, strict=True):
            filled[index] = leaf
        consts, args = jax.tree.unflatten(tree, filled)
        return program.cell(consts, args, point)

    primals = [leaves[index] for index in moving]
    return jax.jvp(value, primals, [directions[index] for index in moving])[1]


def _solved(
    program: Program, consts: Any, args: Any, point: PyTree, converged: Array, moved: PyTree
) -> PyTree:
    structure, solver = program.structure, program.solver
    dtype = accumulate_dtype(structure.dtype)
    _, slope = jax.linearize(partial(program.cell, consts, args), point)

    def system(vector: PyTree) -> PyTree:
        return jax.tree.map(jnp.subtract, vector, slope(vector))

    def solve(product: Any, right: PyTree) -> PyTree:
        def flat_product(vector: Array) -> Array:
            return structure.flatten(product(structure.unflatten(vector))).astype(dtype)

        solution = gmres(
            flat_product,
            structure.flatten(right).astype(dtype),
            tolerance=solver.backward_tolerance,
            num_steps=solver.backward_steps,
        )
        return structure.unflatten(solution)

    zeros = jax.tree.map(jnp.zeros_like, moved)
    moved = _where(converged, moved, zeros)
    tangent = jax.lax.custom_linear_solve(system, moved, solve, transpose_solve=solve)
    return _where(converged, tangent, zeros)


def _where(rows: Bool[Array, " N"], chosen: PyTree, other: PyTree) -> PyTree:
    def pick(a: Array, b: Array) -> Array:
        return jnp.where(rows.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, chosen, other)


def _zeros(values: Array) -> Array:
    return match_sharding(jnp.zeros_like(values), values)
