"""Dense layers with a named initialiser."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from .._activations import initializer


def dense(shape: tuple[int, ...], initialization: str, *, key: jax.Array) -> eqx.nn.Linear:
    """An `equinox.nn.Linear` with kernels of the named initialiser and a bias of zeros."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    inputs, outputs = shape
    layer = eqx.nn.Linear(inputs, outputs, key=key)
    # Equinox keeps (out, in), the initialisers take fans from (in, out).
    weight = initializer(initialization)(key, (inputs, outputs), dtype).T
    return eqx.tree_at(
        lambda layer: (layer.weight, layer.bias), layer, (weight, jnp.zeros(outputs, dtype))
    )
