"""XTrace and XDiag, which matfree has, on a batch of Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._each_example import as_single, for_each_example, import_matfree
from ._exact import exact_diagonal, exact_trace
from ._linearize import Linearization
from ._methods import XTrace, require_key
from ._one_by_one import one_by_one
from ._probes import draw
from ._structure import accumulate_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Rounding errors below which a direction counts as none.
_ROUNDINGS = 16.0


def xtrace(lin: Linearization, method: XTrace, key: Any) -> Float[Array, " N"]:
    """Trace of each example's Jacobian (Epperly, Tropp, Webber 2024), through matfree."""
    key = require_key("divergence", method, key)
    if method.num_products >= lin.inputs.size:
        # As many products as dimensions: the trace itself.
        return exact_trace(lin)
    stochtrace, _ = import_matfree("XTrace")
    integrand = stochtrace.leave_one_out_xtrace()
    return _each(lin, method, key, stochtrace.estimator_leave_one_out, integrand)


def xdiag(lin: Linearization, method: XTrace, key: Any) -> Any:
    """Diagonal of each example's Jacobian, the same paper's XDiag, through matfree.

    XDiag needs J^T u as well, which matfree takes by transposing the product: each then costs as
    much as a product for every example apart. For large batches `Hutchinson` or a `Coloring`.
    """
    key = require_key("diagonal", method, key)
    if method.num_products >= lin.inputs.size:
        return exact_diagonal(lin)
    FlatJacobian(lin).check_both_directions()
    stochtrace, _ = import_matfree("XTrace")
    integrand = stochtrace.leave_one_out_xdiag()
    flat = _each(lin, method, key, stochtrace.estimator_leave_one_out, integrand)
    return lin.outputs.unflatten(flat)


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
    stochtrace, _ = import_matfree("XTrace")
    integrand = stochtrace.leave_one_out_xtrace()
    return _each(lin, method, key, stochtrace.estimator_leave_one_out_mean_and_sem, integrand)


def _each(
    lin: Linearization, method: XTrace, key: Array, estimator: Callable[..., Any], integrand: Any
) -> Any:
    """Run a matfree estimator for one matrix on every example, one batched product at a time."""
    flat = FlatJacobian(lin)
    size, wide = flat.inputs.size, accumulate_dtype(flat.inputs.dtype)
    like = jnp.zeros((size,), wide)

    def plain(batch: Float[Array, "N n"]) -> Float[Array, "N n"]:
        return flat.either(batch.astype(flat.inputs.dtype)).astype(wide)

    probe = draw(jax.random.fold_in(key, 1), jnp.zeros((flat.num_examples, size), wide), "gaussian")
    scale = _scale(plain(probe))

    def product(batch: Float[Array, "N n"]) -> Float[Array, "N n"]:
        return plain(batch) / scale[:, None]

    stochtrace, _ = import_matfree("XTrace")
    sampler = stochtrace.sampler_normal(like, num=method.num_products // 2)
    estimate = estimator(integrand, sampler)
    keys = jax.random.split(key, flat.num_examples)

    def estimates(keys: Array) -> Any:
        return for_each_example(lambda k: estimate(as_single(product), k), keys)

    result = one_by_one(estimates)(keys)

    def scaled_back(x: Array) -> Array:
        return (x * scale.reshape((-1,) + (1,) * (x.ndim - 1))).astype(flat.outputs.dtype)

    return jax.tree.map(scaled_back, result)


def _scale(image: Float[Array, "N n"]) -> Float[Array, " N"]:
    """What to divide products by, so that matfree's absolute test of rank is a relative one.

    A direction counts for it where more than one rounding error of float32 is left of a product
    without the earlier ones; of products of this size that is some rounding errors of their own.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(image), axis=1))
    return jnp.where((largest > 0) & jnp.isfinite(largest), _ROUNDINGS * largest, 1)
