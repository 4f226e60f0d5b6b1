"""XTrace and XDiag on a batch of Jacobians (Epperly, Tropp, Webber 2024).

With Y = J W for k Gaussian vectors W and Y = Q R, the projector Q_i onto what the other vectors
span is Q (I - s_i s_i^T), s_i the i-th column of R^-T at length one. So k further products J^T Q or
J Q give, for each i, the part of the trace or diagonal that Q_i holds and one probe of the rest,
the i-th vector: every product serves twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._exact import exact_diagonal, exact_trace
from ._linearize import Linearization
from ._methods import XTrace, require_key
from ._one_by_one import one_by_one
from ._probes import multiply_columns
from ._sharding import match_sharding
from ._structure import accumulate_dtype, error_of_mean

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

# Rounding errors of the largest product below which what is left of one counts as nothing.
_ROUNDINGS = 16.0


def xtrace(lin: Linearization, method: XTrace, key: Any) -> Float[Array, " N"]:
    """Trace of each example's Jacobian."""
    key = require_key("divergence", method, key)
    if method.num_products >= lin.inputs.size:
        # As many products as dimensions: the trace itself.
        return exact_trace(lin)
    return jnp.mean(_traces(lin, method, key), axis=1).astype(lin.outputs.dtype)


def xtrace_products(lin: Linearization, method: XTrace) -> int:
    """How many `xtrace` takes: as asked, or as many as dimensions, which give the trace itself."""
    return min(method.num_products, lin.inputs.size)


def xdiag_products(lin: Linearization, method: XTrace) -> int:
    """How many `xdiag` takes."""
    return min(method.num_products, lin.inputs.size)


def xtrace_with_standard_error(lin: Linearization, method: XTrace, key: Any) -> Any:
    """Trace and the standard error of its leave-one-out estimates."""
    key = require_key("divergence", method, key)
    if method.num_products >= lin.inputs.size:
        trace = exact_trace(lin)
        return trace, jnp.zeros_like(trace)
    traces, dtype = _traces(lin, method, key), lin.outputs.dtype
    error = error_of_mean(traces.T, ddof=0)
    return jnp.mean(traces, axis=1).astype(dtype), error.astype(dtype)


def xdiag(lin: Linearization, method: XTrace, key: Any) -> Any:
    """Diagonal of each example's Jacobian by XDiag, which takes products in both directions."""
    key = require_key("diagonal", method, key)
    if method.num_products >= lin.inputs.size:
        return exact_diagonal(lin)
    flat = FlatJacobian(lin)
    flat.check_both_directions()
    sketch = _sketch(flat, flat.jvp, method, key)
    rows = multiply_columns(flat.vjp, sketch.basis) / sketch.scale
    held = jnp.sum(rows * sketch.basis, axis=2)
    s = sketch.left_out
    moved, along = _matmul(sketch.basis, s), jnp.sum(s * sketch.factor, axis=1)[:, None, :]
    without = held[:, :, None] - moved * _matmul(rows, s)
    estimate = jnp.mean(without + moved * along * sketch.vectors, axis=2)
    found = jnp.where(sketch.full_rank[:, None], estimate, held) * sketch.scale[:, :, 0]
    return lin.outputs.unflatten(found.astype(flat.outputs.dtype))


class _Sketch(NamedTuple):
    """What both have in common.

    Attributes:
        vectors: W.
        scale: of the map; everything else is that of the map over it.
        basis, factor: Q and R.
        left_out: the vectors s_i as columns.
        full_rank: whether the vectors span k directions.
    """

    vectors: Float[Array, "N n k"]
    scale: Float[Array, "N 1 1"]
    basis: Float[Array, "N n k"]
    factor: Float[Array, "N k k"]
    left_out: Float[Array, "N k k"]
    full_rank: Bool[Array, " N"]


def _traces(lin: Linearization, method: XTrace, key: Array) -> Float[Array, "N k"]:
    """The estimate that each vector gives; of J^T, of the same trace, without forward mode."""
    flat = FlatJacobian(lin)
    sketch = _sketch(flat, flat.either, method, key)
    images = multiply_columns(flat.either, sketch.basis) / sketch.scale
    transposed, s = jnp.swapaxes(sketch.basis, 1, 2), sketch.left_out
    small = _matmul(transposed, images)
    w = _matmul(transposed, sketch.vectors)
    along = jnp.sum(w * s, axis=1)
    # The vector within what the others span.
    x = w - s * along[:, None, :]
    held = jnp.trace(small, axis1=1, axis2=2)[:, None]
    without = held - jnp.sum(s * _matmul(small, s), axis=1)
    rest = (
        along * jnp.sum(s * sketch.factor, axis=1)
        - jnp.sum(_matmul(jnp.swapaxes(images, 1, 2), sketch.vectors) * x, axis=1)
        + jnp.sum(x * _matmul(small, x), axis=1)
    )
    # Its direction beyond that is uniform: at the length that it has in the mean, less variance.
    size, count = sketch.vectors.shape[1:]
    beyond = jnp.sum(sketch.vectors**2, axis=1) - jnp.sum(x**2, axis=1)
    estimates = without + rest * (size - count + 1) / jnp.where(beyond > 0, beyond, 1)
    estimates = jnp.where(sketch.full_rank[:, None], estimates, held)
    return estimates * sketch.scale[:, :, 0]


def _sketch(
    flat: FlatJacobian, product: Callable[[Any], Any], method: XTrace, key: Array
) -> _Sketch:
    size, wide = flat.inputs.size, accumulate_dtype(flat.inputs.dtype)
    count = method.num_products // 2
    keys = jax.random.split(key, flat.num_examples)
    vectors = jax.vmap(lambda k: jax.random.normal(k, (count, size), wide))(keys)
    like = flat.inputs.flatten(flat.lin.xs)
    vectors = jnp.swapaxes(match_sharding(vectors, like), 1, 2)
    images = multiply_columns(product, vectors)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(images), axis=(1, 2), keepdims=True))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    basis, factor = one_by_one(jnp.linalg.qr)(images / scale)
    sizes = jnp.abs(jnp.diagonal(factor, axis1=1, axis2=2))
    least = _ROUNDINGS * float(jnp.finfo(wide).eps)
    full_rank = jnp.min(sizes, axis=1) > least * jnp.max(sizes, axis=1)
    identity = match_sharding(jnp.broadcast_to(jnp.eye(count, dtype=wide), factor.shape), factor)
    safe = jnp.where(full_rank[:, None, None], factor, identity)
    inverse = one_by_one(_inverse_transposed)(safe, identity)
    length = jnp.sqrt(jnp.sum(inverse**2, axis=1, keepdims=True))
    return _Sketch(vectors, scale, basis, factor, inverse / length, full_rank)


def _inverse_transposed(factor: Float[Array, "N k k"], identity: Array) -> Float[Array, "N k k"]:
    return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, transpose_a=True)


def _matmul(left: Float[Array, "N a b"], right: Float[Array, "N b c"]) -> Float[Array, "N a c"]:
    return jnp.matmul(left, right, precision="highest")
