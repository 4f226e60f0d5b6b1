"""Smallest singular value of each example's Jacobian, and the direction that it stretches least."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian, first_direction
from ._exact import dense_jacobian
from ._lanczos import Leading, Product, leading_singular_vector
from ._linearize import Linearization, check_linearization
from ._memory import known_size
from ._spectral_norm import check_options, is_small, leading_pair, on_smaller_side
from ._structure import accumulate_dtype, common_dtype, norm

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


class LeastStretch(NamedTuple):
    """The smallest singular value `[N]`, and the unit inputs `[N, *in]` that it belongs to.

    `value` carries the gradient, `direction` none.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 3 * xs, jnp.ones((1, 2)))
        >>> value, direction = jacreg.least_stretch(lin, key=jax.random.key(0))
        >>> value.round(), direction.shape
        (Array([3.], dtype=float32), (1, 2))
    """

    value: Float[Array, " N"]
    direction: PyTree


def least_stretch(
    lin: Linearization,
    *,
    key: Array,
    tolerance: float = 1e-3,
    max_steps: int | None = None,
) -> LeastStretch:
    """Smallest singular value of each example's Jacobian, and the direction of it.

    Of a layer of norm 1 it says how far from an isometry the layer is: by how much it shrinks
    what it shrinks most. Of a Jacobian with fewer rows than columns the directions that it loses
    altogether do not count: the smallest of as many singular values as the smaller side has.

    From the dense Jacobian where that side has at most 64 dimensions. Else, with G = J^T J or
    J J^T on it, as the leading vector of 2 s^2 - G, s the spectral norm: Lanczos steps as in
    `spectral_norm`. The value is ||J v||, so from above; with probability 0.9999 an example its
    square is at most 2 `tolerance` s^2 above the smallest one's.

    Args:
        lin: from `linearize`.
        key: for the random start.
        tolerance: relative to the spectral norm's square.
        max_steps: Lanczos steps before giving up; None means as many as the tolerance can need.

    Returns:
        `LeastStretch(value [N], direction [N, *in])`; nan where the Jacobian is not finite and
        where `max_steps` did not suffice. The direction is zero where the value is and the
        Jacobian is too large to form.

    Raises:
        ValueError: the key is missing, or an option is out of range.
        TypeError: (DirectionError) the function lacks a direction that is needed.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs * jnp.array([1.0, 0.5]), jnp.ones((1, 2)))
        >>> found = jacreg.least_stretch(lin, key=jax.random.key(0))
        >>> found.value, abs(found.direction)
        (Array([0.5], dtype=float32), Array([[0., 1.]], dtype=float32))
    """
    check_linearization("least_stretch", lin)
    check_options("least_stretch", key, tolerance, max_steps)
    flat, frozen = FlatJacobian(lin), FlatJacobian(jax.lax.stop_gradient(lin))
    rows, columns, examples = flat.outputs.size, flat.inputs.size, known_size(flat.num_examples)
    dtype = accumulate_dtype(common_dtype((flat.inputs.dtype, flat.outputs.dtype)))
    if min(rows, columns, examples) == 0:
        nothing = jnp.zeros((examples, columns), dtype)
        return LeastStretch(jnp.zeros(examples, dtype), lin.inputs.unflatten(nothing))
    if is_small(rows, columns, examples):
        left, right, converged = _by_dense(frozen)
    else:
        largest = leading_pair("least_stretch", lin, key, tolerance, max_steps)
        left, right, converged = _by_lanczos(frozen, largest.value, key, tolerance, max_steps)
        converged = converged & largest.converged
    left, right = jax.lax.stop_gradient((left, right))
    value = first_direction(
        lin,
        lambda: norm(flat.jvp(right).astype(dtype)),
        lambda: norm(flat.vjp(left).astype(dtype)),
        reverse_first=columns > rows,
    )
    value = jnp.where(converged, value, jnp.nan).astype(lin.outputs.dtype)
    return LeastStretch(value, lin.inputs.unflatten(right))


def _by_dense(flat: FlatJacobian) -> tuple[Array, Array, Array]:
    dense = dense_jacobian(flat)
    dense = dense.astype(accumulate_dtype(dense.dtype))
    finite = jnp.isfinite(dense).all((1, 2), keepdims=True)
    left, _, right = jnp.linalg.svd(jnp.where(finite, dense, 0), full_matrices=False)
    return left[:, :, -1], right[:, -1], finite[:, 0, 0]


def _by_lanczos(
    flat: FlatJacobian, largest: Array, key: Array, tolerance: float, max_steps: int | None
) -> tuple[Array, Array, Array]:
    # Twice, as s^2 - G of an isometry is rounding alone.
    shift = 2 * jax.lax.stop_gradient(jnp.square(largest))[:, None]

    def find(there: Product, back: Product, start: Array) -> Leading:
        def complement(vectors: Array) -> Array:
            return shift * vectors - back(there(vectors))

        return leading_singular_vector(
            complement, complement, start, tolerance=tolerance / 2, max_steps=max_steps
        )

    return on_smaller_side(flat, jax.random.fold_in(key, 1), find)
