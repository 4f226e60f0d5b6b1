"""Equilibria of a batch: the fixed points of a cell, with implicit derivatives in both modes."""

from ._solve import EquilibriumResult as EquilibriumResult
from ._solve import solve as solve
from ._solver import EquilibriumSolver as EquilibriumSolver

__all__ = [
    "EquilibriumResult",
    "EquilibriumSolver",
    "solve",
]
