"""How a fixed point is found and differentiated."""

from __future__ import annotations

import dataclasses

from .._checks import check_count, check_positive
from .._nearest import unknown

_METHODS = ("anderson", "iteration")


@dataclasses.dataclass(frozen=True)
class EquilibriumSolver:
    """How a fixed point z = f(z) is found and differentiated.

    Attributes:
        method: "anderson" acceleration (Anderson 1965; Walker and Ni 2011), or the plain
            "iteration".
        tolerance: on norm(f(z) - z) / norm(f(z)), for each example.
        max_steps: evaluations of the cell after which the solver gives up (its result says so).
        memory: past points that Anderson's method mixes; one more than the state has entries at
            most.
        backward_tolerance, backward_steps: of the linear solve (GMRES) of a derivative, one
            product with the cell's Jacobian a step; where they are spent the derivative is what
            it has by then (Bai et al. 2021 take 8 steps).

    Raises:
        ValueError: an unknown method, or a value that is not positive and finite.
        TypeError: a value that is no number, or of those that count no integer.

    Example:
        >>> import jax.numpy as jnp, jacreg.equilibrium
        >>> solver = jacreg.equilibrium.EquilibriumSolver("iteration", max_steps=3)
        >>> start = jnp.zeros((1, 1))
        >>> found = jacreg.equilibrium.solve(lambda zs: 0.5 * zs + 1, start, solver=solver)
        >>> found.num_evaluations, found.converged
        (Array([3], dtype=int32), Array([False], dtype=bool))
    """

    method: str = "anderson"
    tolerance: float = 1e-4
    max_steps: int = 50
    memory: int = 5
    backward_tolerance: float = 1e-5
    backward_steps: int = 40

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise unknown("equilibrium solver", self.method, _METHODS)
        for name in ("tolerance", "backward_tolerance"):
            check_positive("EquilibriumSolver", name, getattr(self, name))
        for name in ("max_steps", "memory", "backward_steps"):
            check_count("EquilibriumSolver", name, getattr(self, name))
