"""A linear solver that hands over what it has when its steps are spent."""

from __future__ import annotations

import lineax as lx


class Patient(lx.AbstractLinearSolver):
    """Another solver whose failure to converge is not an error.

    The backward pass of an equilibrium model is commonly cut after a few steps (Bai et al. 2021
    take 8); the gradient is then approximate, and training goes on.
    """

    solver: lx.AbstractLinearSolver

    def init(self, operator, options):
        """As the other solver."""
        return self.solver.init(operator, options)

    def compute(self, state, vector, options):
        """As the other solver, always successful."""
        solution, _, stats = self.solver.compute(state, vector, options)
        return solution, lx.RESULTS.successful, stats

    def transpose(self, state, options):
        """As the other solver."""
        return self.solver.transpose(state, options)

    def conj(self, state, options):
        """As the other solver."""
        return self.solver.conj(state, options)

    def assume_full_rank(self):
        """As the other solver."""
        return self.solver.assume_full_rank()
