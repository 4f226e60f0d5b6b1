"""Hutch++: the part of a trace that a few directions hold exactly, the rest by probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._linearize import Linearization
from ._methods import HutchPlusPlus, require_key
from ._one_by_one import one_by_one
from ._probes import draw, map_probes
from ._structure import accumulate_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def hutch_plus_plus(lin: Linearization, method: HutchPlusPlus, key: Any) -> Float[Array, " N"]:
    """Trace of each example's Jacobian by Hutch++ (Meyer, Musco, Musco, Woodruff 2021, alg. 1).

    matfree, which serves XTrace, does not have it. With Q a basis of J S for a third of the
    products, tr J = tr(Q^T J Q) + tr((I - Q Q^T) J (I - Q Q^T)); the second by Hutchinson.
    Where there is no forward mode, of J^T, whose trace is the same.
    """
    key = require_key("divergence", method, key)
    flat = FlatJacobian(lin)
    size, wide = flat.inputs.size, accumulate_dtype(flat.inputs.dtype)
    thirds = min(method.num_products // 3, size)
    left = max(method.num_products - 2 * thirds, 1)

    def products(vectors: Float[Array, "N n k"]) -> Float[Array, "N n k"]:
        columns = jnp.moveaxis(vectors, 2, 0).astype(flat.inputs.dtype)
        return jnp.moveaxis(map_probes(flat.either, columns), 0, 2).astype(wide)

    like = jnp.zeros((flat.num_examples, size), wide)
    sketch_key, probe_key = jax.random.split(key)

    def probes(key: Array, count: int) -> Float[Array, "N n k"]:
        keys = jax.random.split(key, count)
        return jax.vmap(lambda k: draw(k, like, "rademacher"), out_axes=2)(keys)

    basis = one_by_one(jnp.linalg.qr)(products(probes(sketch_key, thirds)))[0]
    rest = probes(probe_key, left)
    rest = rest - basis @ (jnp.swapaxes(basis, 1, 2) @ rest)
    both = jnp.concatenate([basis, rest * left**-0.5], axis=2)
    return jnp.sum(both * products(both), axis=(1, 2)).astype(flat.outputs.dtype)
