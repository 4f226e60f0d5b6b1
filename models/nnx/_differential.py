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
        if spec.init == "glorot":
            self._official(rngs)

    def _official(self, rngs: nnx.Rngs) -> None:
        """Draw the kernels anew, and set the biases, as the official code does."""
        layers = list(self.layers)
        for layer in layers:
            linear = layer.linear
            gain = 1.0 if layer is layers[-1] else 2.0
            draw = jax.nn.initializers.variance_scaling(gain, "fan_avg", "normal")
            kernel = linear.kernel[...]
            linear.kernel[...] = draw(rngs.params(), kernel.shape, kernel.dtype)
            if linear.bias is not None:
                linear.bias[...] = jax.numpy.full_like(linear.bias[...], 0.1)
