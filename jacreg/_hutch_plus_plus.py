"""Hutch++: what a few directions hold of a trace or diagonal exactly, the rest by probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._linearize import Linearization
from ._methods import HutchPlusPlus, require_key
from ._one_by_one import one_by_one
from ._probes import draw, multiply_columns
from ._structure import accumulate_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


def hutch_plus_plus(lin: Linearization, method: HutchPlusPlus, key: Any) -> Float[Array, " N"]:
    """Trace of each example's Jacobian by Hutch++ (Meyer, Musco, Musco, Woodruff 2021, alg. 1).

    With Q a basis of J S for a third of the products, tr J = tr(Q^T J Q) +
    tr((I - Q Q^T) J (I - Q Q^T)); the second by Hutchinson. Where there is no forward mode, of
    J^T, whose trace is the same.
    """
    flat = FlatJacobian(lin)
    basis, rest = _basis_and_probes(
        flat, flat.either, method, require_key("divergence", method, key)
    )
    rest = _without(basis, rest)
    both = jnp.concatenate([basis, rest * rest.shape[2] ** -0.5], axis=2)
    return jnp.sum(both * multiply_columns(flat.either, both), axis=(1, 2)).astype(
        flat.outputs.dtype
    )


def diag_plus_plus(lin: Linearization, method: HutchPlusPlus, key: Any) -> PyTree:
    """Diagonal of each example's Jacobian by Diag++ (Baston, Nakatsukasa 2022).

    With the same Q, diag J = diag(Q Q^T J) + diag((I - Q Q^T) J): the first by the rows Q^T J, so
    that it takes both directions; the second is the mean of v * (I - Q Q^T) J v. Unbiased, and
    exact for a J of so low a rank.
    """
    flat = FlatJacobian(lin)
    flat.check_both_directions()
    basis, probes = _basis_and_probes(flat, flat.jvp, method, require_key("diagonal", method, key))
    held = jnp.sum(basis * multiply_columns(flat.vjp, basis), axis=2)
    rest = probes * _without(basis, multiply_columns(flat.jvp, probes))
    return lin.outputs.unflatten((held + jnp.mean(rest, axis=2)).astype(flat.outputs.dtype))


def hutch_plus_plus_products(lin: Linearization, method: HutchPlusPlus) -> int:
    """How many either takes: as asked, fewer where a third already spans the space."""
    thirds, left = _split(lin, method)
    return 2 * thirds + left


def _split(lin: Linearization, method: HutchPlusPlus) -> tuple[int, int]:
    """Products for the sketch and as many for the basis, and those left for probes."""
    thirds = min(method.num_products // 3, lin.inputs.size)
    # A basis of the whole space leaves nothing to probes.
    return thirds, method.num_products - 2 * thirds if thirds < lin.inputs.size else 1


def _basis_and_probes(
    flat: FlatJacobian, product: Callable[[Any], Any], method: HutchPlusPlus, key: Array
) -> tuple[Float[Array, "N n k"], Float[Array, "N n m"]]:
    """An orthonormal basis of J S for a third of the products, and signs for the last third.

    The estimates are unbiased whatever the basis, so that it carries no derivative: they have an
    unbiased one without, where Q R has none too, at a lower rank.
    """
    thirds, left = _split(flat.lin, method)
    like = flat.inputs.flatten(flat.lin.xs).astype(accumulate_dtype(flat.inputs.dtype))
    sketch_key, probe_key = jax.random.split(key)

    def probes(key: Array, count: int) -> Float[Array, "N n k"]:
        keys = jax.random.split(key, count)
        return jax.vmap(lambda k: draw(k, like, "rademacher"), out_axes=2)(keys)

    sketch = jax.lax.stop_gradient(multiply_columns(product, probes(sketch_key, thirds)))
    return one_by_one(jnp.linalg.qr)(sketch)[0], probes(probe_key, left)


def _without(basis: Float[Array, "N n k"], vectors: Float[Array, "N n m"]) -> Any:
    """(I - Q Q^T) applied."""
    return vectors - basis @ (jnp.swapaxes(basis, 1, 2) @ vectors)
