"""XRowNorm for the squared Frobenius norm of a batch of Jacobians (Epperly 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from ._basis import FlatJacobian
from ._choice import Choice
from ._exact import norm_by_products
from ._leave_one_out import gaussian_vectors, largest, matmul, mean_and_error, sketch_of
from ._linearize import Linearization
from ._methods import Exact, XRowNorm, require_key
from ._probes import multiply_columns

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def xrownorm(lin: Linearization, method: XRowNorm, key: Any) -> Float[Array, " N"]:
    """Squared Frobenius norm: the mean of what each vector says."""
    return xrownorm_with_standard_error(lin, method, key)[0]


def xrownorm_products(lin: Linearization, method: XRowNorm) -> int:
    """How many it takes: as asked, or as many as give the norm itself."""
    exact = _exact(lin, method)
    return method.num_products if exact is None else exact.num_products


def _exact(lin: Linearization, method: XRowNorm) -> Choice | None:
    """The norm itself where a row or column a product is enough; None where it is not.

    It may take the longer side where the Linearization has a direction of its own.
    """
    enough = method.num_products >= min(lin.inputs.size, lin.outputs.size)
    return norm_by_products(lin, Exact(), float("inf")) if enough else None


def xrownorm_with_standard_error(lin: Linearization, method: XRowNorm, key: Any) -> Any:
    """The norm and the standard error of its leave-one-out estimates."""
    key = require_key("frobenius_squared", method, key)
    exact = _exact(lin, method)
    if exact is not None:
        norm = exact.run(None)
        return norm, jnp.zeros_like(norm)
    return mean_and_error(_norms(lin, method, key), lin.outputs.dtype)


def _norms(lin: Linearization, method: XRowNorm, key: Array) -> Float[Array, "N k"]:
    """The estimate that each vector gives, of J or of J^T: on the side of fewer dimensions.

    With Q a basis of J^T J W, ||J||^2 = ||J Q_i||^2 + E ||J (I - Q_i Q_i^T) w_i||^2, where Q_i
    leaves the i-th vector out.
    """
    flat = FlatJacobian(lin)
    flat.check_both_directions()
    wide = lin.outputs.size < lin.inputs.size
    like, side = (lin.value, lin.outputs) if wide else (lin.xs, lin.inputs)
    there, back = (flat.vjp, flat.jvp) if wide else (flat.jvp, flat.vjp)
    vectors = gaussian_vectors(like, side, method.num_products // 3, key)
    images = multiply_columns(there, vectors)
    scale = largest(images)
    images = images / scale
    sketch = sketch_of(vectors, multiply_columns(back, images))
    held = multiply_columns(there, sketch.basis) / scale
    total = jnp.sum(held**2, axis=(1, 2))[:, None]
    without = total - jnp.sum(matmul(held, sketch.left_out) ** 2, axis=1)
    rest = jnp.sum((images - matmul(held, sketch.inside)) ** 2, axis=1)
    estimates = without + rest * sketch.at_mean_length()
    # A J of so low a rank is all in Q.
    estimates = jnp.where(sketch.full_rank[:, None], estimates, total)
    return estimates * scale[:, :, 0] ** 2
