"""A differential network as a Flax nnx module."""

from __future__ import annotations

import jax
from flax import nnx

import jacreg.nnx

from .._differential import DifferentialMLPSpec


class DifferentialMLP(jacreg.nnx.DifferentialMLP):
    """`jacreg.nnx.DifferentialMLP` of a `DifferentialMLPSpec`: `[N, D]` to (y, dy/dx)."""

    def __init__(self, spec: DifferentialMLPSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        super().__init__(
            spec.input_shape[0],
            spec.outputs,
            hidden_features=spec.hidden,
            activation=spec.activation,
            beta=spec.beta,
            param_dtype=jax.dtypes.canonicalize_dtype(float),
            rngs=rngs,
        )
