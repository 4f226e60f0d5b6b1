"""The linear solve of the backward pass."""

from __future__ import annotations

import lineax as lx
from jax.scipy.sparse.linalg import gmres


class TruncatedGMRES(lx.AbstractLinearSolver):
    """GMRES without restarts that ends at a tolerance, or hands over what it has by then.

    The backward pass of an equilibrium model is commonly cut after a few steps (Bai et al. 2021
    take 8); the gradient is then approximate, and training goes on. lineax's own GMRES looks at
    its tolerance only once a Krylov space is full and so takes many times the products.

    Attributes:
      rtol: on the norm of the residual, relative to that of the right-hand side.
      steps: the size of the Krylov space, one product with the Jacobian each; two more check it.
    """

    rtol: float
    steps: int

    def init(self, operator, options):
        """The operator itself, as one linear function."""
        return lx.linearise(operator)

    def compute(self, state, vector, options):
        """The solution so far; always successful."""
        solution, _ = gmres(
            state.mv,
            vector,
            tol=self.rtol,
            restart=self.steps,
            maxiter=1,
            solve_method="incremental",
        )
        return solution, lx.RESULTS.successful, {}

    def transpose(self, state, options):
        """The transposed operator."""
        return state.transpose(), options

    def conj(self, state, options):
        """The conjugate operator: itself, states are real."""
        return lx.conj(state), options

    def assume_full_rank(self):
        """I - J has an inverse wherever the equilibrium is isolated."""
        return True
