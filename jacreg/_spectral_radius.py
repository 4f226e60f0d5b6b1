"""Modulus of the dominant eigenvalue of each example's square Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._arnoldi import dominant_modulus, normalized_matrices
from ._basis import FlatJacobian
from ._checks import check_count
from ._exact import dense_jacobian
from ._linearize import Linearization, check_linearization
from ._memory import known_size
from ._one_by_one import one_by_one
from ._probes import draw
from ._spectral_norm import check_options
from ._structure import accumulate_dtype, common_dtype, unit
from ._trace import either_product

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

# Up to this size the dense Jacobian at once; up to the next where Arnoldi fails.
_DENSE_SIZE = 128
_FALLBACK_SIZE = 1024
_DENSE_ENTRIES = 1 << 24
# Krylov dimensions, and the entries that its basis may take.
_SUBSPACE = 64
_BASIS_ENTRIES = 1 << 26


def spectral_radius(
    lin: Linearization,
    *,
    key: Array,
    tolerance: float = 1e-3,
    max_products: int = 1024,
) -> Float[Array, " N"]:
    """Modulus of the dominant eigenvalue of each example's Jacobian, complex or real.

    Not the spectral norm, which is at least as large: an iteration z <- f(z) converges
    near its fixed point if and only if the spectral radius there is below one.

    Up to 128 dimensions from all eigenvalues of the dense Jacobian. Above, by Arnoldi in
    a space of up to 64 dimensions with full orthogonalisation and thick restarts
    (Stewart 2001, in the basis of eigenvectors); an example has converged once the
    residual of its dominant Ritz pair, times the condition of that eigenvalue, is
    within the tolerance. What has not, falls back to the dense way up to 1024
    dimensions. Eigenvalues of small matrices come from `jnp.linalg.eig`, which JAX has
    on CPU and GPU.

    Args:
        lin: from `linearize`, of a function whose output has the input's shape. One
            direction is enough: J and J^T have the same eigenvalues.
        key: for the random start.
        tolerance: relative error.
        max_products: products with J an example before the Arnoldi cycles give up.

    Returns:
        `[N]`; nan where it did not converge or the Jacobian is not finite: never a
        number that was not reached. Differentiable up to 128 dimensions.

    Raises:
        ValueError: the Jacobian is not square, the key is missing, or an option is out
            of range.
        TypeError: differentiated above 128 dimensions, where the derivative would need
            the left eigenvector too.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 2 * xs[:, ::-1], jnp.ones((1, 2)))
        >>> jacreg.spectral_radius(lin, key=jax.random.key(0)).round()
        Array([2.], dtype=float32)
    """
    check_linearization("spectral_radius", lin)
    check_count("spectral_radius", "max_products", max_products)
    check_options("spectral_radius", key, tolerance)
    flat = FlatJacobian(lin)
    if (flat.inputs.treedef, flat.inputs.shapes) != (flat.outputs.treedef, flat.outputs.shapes):
        raise ValueError(
            "spectral_radius: eigenvalues need a square Jacobian, with an output of the input's "
            f"shape; got {flat.inputs.describe()} -> {flat.outputs.describe()}. The largest "
            "singular value of a rectangular one is spectral_norm(lin, key=key)."
        )
    size, dtype = flat.inputs.size, flat.outputs.dtype
    examples = known_size(flat.num_examples)
    if size == 0 or examples == 0:
        return jnp.zeros(examples, dtype)
    if size <= _DENSE_SIZE and examples * size**2 <= _DENSE_ENTRIES:
        return _dense_radius(flat).astype(dtype)
    lin = jax.tree.map(_undifferentiable, lin)
    flat = FlatJacobian(lin)
    radius, converged = _arnoldi_radius(flat, key, tolerance, max_products)
    if size <= _FALLBACK_SIZE and examples * size**2 <= _DENSE_ENTRIES:
        radius = jax.lax.cond(
            jnp.all(converged),
            lambda: radius,
            lambda: jnp.where(converged, radius, _dense_radius(flat)),
        )
    else:
        radius = jnp.where(converged, radius, jnp.nan)
    return radius.astype(dtype)


def _dense_radius(flat: FlatJacobian) -> Float[Array, " N"]:
    """From all eigenvalues, which are differentiable where they are simple."""
    dense = dense_jacobian(flat)
    dense = dense.astype(accumulate_dtype(dense.dtype))
    finite = jnp.all(jnp.isfinite(dense), axis=(1, 2))
    dense, scale = normalized_matrices(jnp.where(finite[:, None, None], dense, 0))
    values = _eigenvalues(dense)
    # The modulus has no derivative at zero, and nan is not a good one.
    zero = values == 0
    modulus = jnp.where(zero, 0, jnp.abs(jnp.where(zero, 1, values)))
    return jnp.where(finite, scale * jnp.max(modulus, axis=1), jnp.nan)


@jax.custom_jvp
def _eigenvalues(dense: Float[Array, "N n n"]) -> Array:
    return one_by_one(jnp.linalg.eigvals)(dense)


@_eigenvalues.defjvp
def _simple(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The derivative where eigenvalues are simple; where all are zero, one that is finite."""
    values, vectors = one_by_one(jnp.linalg.eig)(primals[0])
    nilpotent = jnp.all(values == 0, axis=1)[:, None, None]
    vectors = jnp.where(nilpotent, jnp.eye(vectors.shape[1], dtype=vectors.dtype), vectors)

    def along(vectors: Array, moved: Array) -> Array:
        moved = jnp.matmul(moved.astype(vectors.dtype), vectors, precision="highest")
        return jnp.linalg.solve(vectors, moved)

    moved = one_by_one(along)(vectors, tangents[0])
    return values, jnp.diagonal(moved, axis1=1, axis2=2)


def _arnoldi_radius(
    flat: FlatJacobian, key: Array, tolerance: float, max_products: int
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """From products alone, with the basis of the Krylov space within bounded memory."""
    dtype = accumulate_dtype(common_dtype((flat.inputs.dtype, flat.outputs.dtype)))
    size, examples = flat.inputs.size, known_size(flat.num_examples)
    steps = min(size, _SUBSPACE, max(8, _BASIS_ENTRIES // (examples * size)))

    def product(v: Array) -> Array:
        tree = flat.inputs.unflatten(v)
        return flat.outputs.flatten(either_product(flat.lin, tree)).astype(dtype)

    # A restart keeps half of the space: the first cycle costs twice the others.
    return dominant_modulus(
        product,
        unit(flat.inputs.flatten(draw(key, flat.lin.xs, "gaussian")).astype(dtype)),
        steps=steps,
        cycles=max(1, max_products // (steps - steps // 2) - 1),
        tolerance=tolerance,
    )


def _undifferentiable(leaf: Any) -> Any:
    return _barrier(leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else leaf


@jax.custom_jvp
def _barrier(leaf: Array) -> Array:
    return leaf


@_barrier.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        f"spectral_radius: has no gradient above {_DENSE_SIZE} dimensions. Record it from "
        "spectral_radius(jax.lax.stop_gradient(lin), key=key), and penalise frobenius_squared "
        "or spectral_norm, which bound it."
    )
