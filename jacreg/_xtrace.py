"""XTrace and XDiag on a batch of Jacobians (Epperly, Tropp, Webber 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._exact import exact_diagonal, exact_trace
from ._leave_one_out import Sketch, gaussian_vectors, matmul, mean_and_error, sketch_of
from ._linearize import Linearization
from ._methods import XTrace, require_key
from ._probes import multiply_columns

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def xtrace(lin: Linearization, method: XTrace, key: Any) -> Float[Array, " N"]:
    """Trace of each example's Jacobian."""
    return xtrace_with_standard_error(lin, method, key)[0]


def xtrace_products(lin: Linearization, method: XTrace) -> int:
    """How many both take: as asked, or as many as dimensions, which give the trace itself."""
    return min(method.num_products, lin.inputs.size)


def xtrace_with_standard_error(lin: Linearization, method: XTrace, key: Any) -> Any:
    """Trace and the standard error of its leave-one-out estimates."""
    key = require_key("divergence", method, key)
    if method.num_products >= lin.inputs.size:
        # As many products as dimensions: the trace itself.
        trace = exact_trace(lin)
        return trace, jnp.zeros_like(trace)
    return mean_and_error(_traces(lin, method, key), lin.outputs.dtype)


def xdiag(lin: Linearization, method: XTrace, key: Any) -> Any:
    """Diagonal of each example's Jacobian by XDiag, which takes products in both directions."""
    key = require_key("diagonal", method, key)
    if method.num_products >= lin.inputs.size:
        return exact_diagonal(lin)
    flat = FlatJacobian(lin)
    flat.check_both_directions()
    sketch, images = _sketch(flat, flat.jvp, method, key)
    rows = multiply_columns(flat.vjp, sketch.basis) / sketch.scale
    held = jnp.sum(rows * sketch.basis, axis=2)
    moved = matmul(sketch.basis, sketch.left_out)
    without = held[:, :, None] - moved * matmul(rows, sketch.left_out)
    rest = images - matmul(sketch.basis, sketch.within_others(images))
    estimate = jnp.mean(without + rest * sketch.vectors, axis=2)
    found = _or_held(sketch, estimate, held, jnp.mean(images * sketch.vectors, axis=2))
    found = found * sketch.scale[:, :, 0]
    return lin.outputs.unflatten(found.astype(flat.outputs.dtype))


def _or_held(sketch: Sketch, estimate: Array, held: Array, slope: Array) -> Array:
    """The estimate, or where the basis holds all of J what is in it.

    J may leave that basis when it moves: the derivative there is that of Hutchinson's estimate.
    """
    fixed, at = jax.lax.stop_gradient((held, slope))
    return jnp.where(sketch.full_rank[:, None], estimate, fixed + (slope - at))


def _traces(lin: Linearization, method: XTrace, key: Array) -> Float[Array, "N k"]:
    """The estimate that each vector gives; of J^T, of the same trace, without forward mode."""
    flat = FlatJacobian(lin)
    sketch, images = _sketch(flat, flat.either, method, key)
    of_basis = multiply_columns(flat.either, sketch.basis) / sketch.scale
    s, x = sketch.left_out, sketch.inside
    small = matmul(jnp.swapaxes(sketch.basis, 1, 2), of_basis)
    held = jnp.trace(small, axis1=1, axis2=2)[:, None]
    without = held - jnp.sum(s * matmul(small, s), axis=1)
    beyond = sketch.vectors - matmul(sketch.basis, x)
    rest = jnp.sum(beyond * (images - matmul(of_basis, x)), axis=1)
    estimates = without + rest * sketch.at_mean_length()
    slope = jnp.sum(images * sketch.vectors, axis=1)
    return _or_held(sketch, estimates, held, slope) * sketch.scale[:, :, 0]


def _sketch(
    flat: FlatJacobian, product: Callable[[Any], Any], method: XTrace, key: Array
) -> tuple[Sketch, Float[Array, "N n k"]]:
    """The sketch, and the products with its vectors over its scale."""
    vectors = gaussian_vectors(flat.lin.xs, flat.inputs, method.num_products // 2, key)
    images = multiply_columns(product, vectors)
    sketch = sketch_of(vectors, images)
    return sketch, images / sketch.scale
