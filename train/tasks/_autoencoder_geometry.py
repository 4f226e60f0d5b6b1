"""How an encoder contracts: at a distance, in how many directions, and how its Jacobian changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# In units of the input's Euclidean norm; digits have one of about 9.
DISTANCES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# The places in the spectrum that are recorded, where it has as many.
RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_LARGE = 0.1
_HESSIAN_SCALE, _HESSIAN_PROBES = 0.1, 8


def make_geometry(
    encoder: Callable[[Any], Callable[[Any], Any]], inputs: Float[Array, "N D"]
) -> Callable[[Any], dict[str, float]]:
    """Return `weights -> metrics` of `encoder(weights)`, means over the inputs.

    `contraction_at_<d>` is norm(f(x + d u) - f(x)) / d for one random direction u an input;
    `singular_value_<k>` the k-th largest of the Jacobian; `large_singular_values` how many are
    above a tenth of the largest; `hessian` the change of the Jacobian under noise over the
    noise's scale, sqrt(E norm(J(x + e) - J(x))_F^2) / scale with scale 0.1 (Rifai et al. 2011).
    """
    directions = jax.random.normal(jax.random.key(0), inputs.shape, inputs.dtype)
    directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)

    @jax.jit
    def measured(weights: Any) -> tuple[Array, Array, Array]:
        encode = encoder(weights)
        lin = jacreg.linearize(encode, inputs)

        def ratio(distance: Array) -> Array:
            moved = encode(inputs + distance * directions)
            return jnp.mean(jnp.linalg.norm(moved - lin.value, axis=1)) / distance

        changed = jacreg.losses.contractive_hessian_penalty(
            encode,
            inputs,
            scale=_HESSIAN_SCALE,
            num_probes=_HESSIAN_PROBES,
            key=jax.random.key(1),
        )
        ratios = jax.lax.map(ratio, jnp.asarray(DISTANCES, inputs.dtype))
        return ratios, jacreg.gram(lin, lin), jnp.mean(jnp.sqrt(changed)) / _HESSIAN_SCALE

    def geometry(weights: Any) -> dict[str, float]:
        ratios, grams, hessian = (np.asarray(found, np.float64) for found in measured(weights))
        # J J^T: its eigenvalues are the squares, tiny negative ones are rounding.
        squares = np.linalg.eigvalsh(grams)[:, ::-1]
        values = np.sqrt(np.maximum(squares, 0))[:, : min(grams.shape[1], inputs.shape[1])]
        large = (values > _LARGE * values[:, :1]).sum(1)
        found = {
            f"contraction_at_{distance:g}": float(ratio)
            for distance, ratio in zip(DISTANCES, ratios, strict=True)
        }
        found |= {
            f"singular_value_{rank}": float(values[:, rank - 1].mean())
            for rank in RANKS
            if rank <= values.shape[1]
        }
        return found | {"large_singular_values": float(large.mean()), "hessian": float(hessian)}

    return geometry
