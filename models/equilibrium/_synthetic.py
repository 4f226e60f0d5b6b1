"""The synthetic equilibrium model of Bai et al."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .._equilibrium import EquilibriumSpec
from ..eqx import dense
from ._solve import solve

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from jacreg.equilibrium import EquilibriumResult


class Equilibrium(eqx.Module):
    """z* = f(z*; x) with f(z; x) = W2^T relu(W1 z + U x + b); see `EquilibriumSpec`.

    `cell(z, u)` takes what `inject(x)` returns, so that a penalty on the cell's Jacobian is
    `jacreg.losses.equilibrium_jacobian_penalty(lambda zs: jax.vmap(model.cell)(zs, us), states)`.
    """

    inner: eqx.nn.Linear
    injection: eqx.nn.Linear
    outer: eqx.nn.Linear
    spec: EquilibriumSpec = eqx.field(static=True)

    def __init__(self, spec: EquilibriumSpec, *, key: jax.Array):
        self.spec = spec
        keys = jax.random.split(key, 4)
        dtype = jax.dtypes.canonicalize_dtype(float)
        (features,) = spec.input_shape
        bound = features**-0.5
        self.inner = eqx.nn.Linear(spec.outputs, spec.hidden, use_bias=False, key=keys[0])
        injection = dense((features, spec.hidden), "lecun_uniform", key=keys[1])
        # Kinks spread over the inputs, rather than all at 0.
        bias = jax.random.uniform(keys[3], (spec.hidden,), dtype, -bound, bound)
        self.injection = eqx.tree_at(lambda layer: layer.bias, injection, bias)
        self.outer = eqx.nn.Linear(spec.hidden, spec.outputs, use_bias=False, key=keys[2])

    def inject(self, x: Float[Array, " D"]) -> Float[Array, " H"]:
        """U x + b, what the cell needs of one input."""
        if jnp.shape(x) != self.spec.input_shape:
            raise ValueError(
                f"The equilibrium model takes one vector of shape {self.spec.input_shape}, got "
                f"{jnp.shape(x)}. Use jax.vmap for a batch."
            )
        return self.injection(x)

    def cell(self, z: Float[Array, " K"], injected: Float[Array, " H"]) -> Float[Array, " K"]:
        """f(z; x) for one example."""
        return self.outer(jax.nn.relu(self.inner(z) + injected))

    def solve(self, x: Float[Array, " D"]) -> EquilibriumResult:
        """The equilibrium of one example, with residual and number of evaluations."""
        injected = self.inject(x)
        cell = lambda z: self.cell(z, injected)  # noqa: E731
        return solve(cell, self.start(injected), solver=self.spec.equilibrium_solver())

    def start(self, injected: Float[Array, " H"]) -> Float[Array, " K"]:
        """A state of zeros."""
        return jnp.zeros(self.spec.outputs, injected.dtype)

    def readout(self, state: Float[Array, " K"]) -> Float[Array, " K"]:
        """The state is the output."""
        return state

    def __call__(
        self, x: Float[Array, " D"], *, key: jax.Array | None = None
    ) -> Float[Array, " K"]:
        """The output for one example; `solve` tells whether it converged."""
        return self.readout(self.solve(x).state)
