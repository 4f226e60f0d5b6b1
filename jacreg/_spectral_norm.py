"""Largest singular value of each example's Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian, first_direction
from ._checks import check_count, check_positive
from ._errors import DirectionError
from ._exact import dense_jacobian
from ._keys import check_key
from ._lanczos import Leading, Product, leading_singular_vector
from ._linearize import Linearization, check_linearization
from ._memory import known_size
from ._probes import draw
from ._structure import accumulate_dtype, common_dtype, norm, unit

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

# Up to this many dimensions on the smaller side the dense Jacobian is the quicker way,
# as long as it is not large itself (entries of the whole batch).
_DENSE_SIDE = 64
_DENSE_ENTRIES = 1 << 24


class LeadingPair(NamedTuple):
    """Largest singular value `[N]` with its unit vectors `left [N, M]` and `right [N, n]`.

    `value` carries the gradient, the vectors none; `converged` says which may be trusted.
    """

    value: Float[Array, " N"]
    left: Float[Array, "N M"]
    right: Float[Array, "N n"]
    converged: Bool[Array, " N"]


def spectral_norm(
    lin: Linearization,
    *,
    key: Array,
    tolerance: float = 1e-3,
    max_steps: int | None = None,
) -> Float[Array, " N"]:
    """Largest singular value of each example's Jacobian, to a relative tolerance.

    From the dense Jacobian where one side has at most 64 dimensions; else by Lanczos
    steps with J^T J, one jvp and one vjp each, which end once an upper bound that holds
    with probability 0.9999 an example (Hochstenbach 2013) is within the tolerance of
    the estimate, a lower bound. No gap between singular values is needed.

    The singular vector is found without gradient and the value is ||J v||, so that
    gradients flow into parameters and inputs (Danskin's theorem). The gradient is that
    of ||J v||, a lower bound that touches the norm: its own relative error is about
    sqrt(tolerance / relative gap). Differentiate it once: a second derivative would
    leave out how v turns.

    Args:
        lin: from `linearize`. Both directions are needed, or a Jacobian that is small
            enough to be formed from one.
        key: for the random start.
        tolerance: relative error, at least a few units of the dtype's precision, below
            which it has no effect (bfloat16: about 3e-2).
        max_steps: Lanczos steps before giving up; None means as many as the tolerance
            can need (about 300 for 1e-3).

    Returns:
        `[N]`; 0, with gradient 0, where the Jacobian is zero; nan where it is not
        finite and where `max_steps` did not suffice.

    Raises:
        ValueError: the key is missing, or an option is out of range.
        TypeError: (DirectionError) the function lacks a direction and is too large for
            the dense way.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.array([[3.0, 4.0]]), jnp.ones((1, 1)))
        >>> jacreg.spectral_norm(lin, key=jax.random.key(0)).round()
        Array([5.], dtype=float32)
    """
    check_linearization("spectral_norm", lin)
    found = leading_pair("spectral_norm", lin, key, tolerance, max_steps)
    return jnp.where(found.converged, found.value, jnp.nan).astype(lin.outputs.dtype)


def leading_pair(
    who: str, lin: Linearization, key: Any, tolerance: float, max_steps: int | None = None
) -> LeadingPair:
    """Largest singular value with both of its vectors, as flat vectors an example.

    Raises:
        ValueError: the key is missing, or an option is out of range.
        TypeError: (DirectionError) the function lacks a direction that is needed.
    """
    check_options(who, key, tolerance, max_steps)
    flat = FlatJacobian(lin)
    rows, columns, examples = flat.outputs.size, flat.inputs.size, known_size(flat.num_examples)
    dtype = accumulate_dtype(common_dtype((flat.inputs.dtype, flat.outputs.dtype)))
    if min(rows, columns, examples) == 0:
        return LeadingPair(
            jnp.zeros(examples, dtype),
            jnp.zeros((examples, rows), dtype),
            jnp.zeros((examples, columns), dtype),
            jnp.ones(examples, bool),
        )
    frozen = FlatJacobian(jax.lax.stop_gradient(lin))
    if is_small(rows, columns, examples):
        left, right, converged = _by_dense(frozen)
    else:
        precision = max(float(jnp.finfo(d).eps) for d in flat.inputs.dtypes + flat.outputs.dtypes)
        try:
            left, right, converged = _by_lanczos(
                frozen, key, max(tolerance, 4 * precision), max_steps
            )
        except DirectionError as missing:
            if examples * rows * columns > 4 * _DENSE_ENTRIES:
                raise DirectionError(
                    f"{who}: needs J v and J^T u for a Jacobian of {rows} x {columns} and "
                    f"{examples} examples, which is too large to form. {missing}"
                ) from missing
            left, right, converged = _by_dense(frozen)
    left, right = jax.lax.stop_gradient((left, right))
    # Either product has the length of the singular value, and its gradient.
    value = first_direction(
        lin,
        lambda: norm(flat.jvp(right).astype(dtype)),
        lambda: norm(flat.vjp(left).astype(dtype)),
        reverse_first=lin.mode == "reverse",
    )
    return LeadingPair(value, left, right, converged)


def check_options(who: str, key: Any, tolerance: float, max_steps: int | None = None) -> None:
    """Check what steps from a random start take.

    Raises:
        ValueError: the key is missing, or an option is out of range.
    """
    check_positive(who, "tolerance", tolerance)
    if max_steps is not None:
        check_count(who, "max_steps", max_steps)
    if key is None:
        raise ValueError(f"{who}: needs a key for its random start; pass key=jax.random.key(seed).")
    check_key(who, "key", key)


def is_small(rows: int, columns: int, examples: int) -> bool:
    """Whether the dense Jacobian is the quicker way."""
    return min(rows, columns) <= _DENSE_SIDE and examples * rows * columns <= _DENSE_ENTRIES


def _by_dense(flat: FlatJacobian) -> tuple[Array, Array, Array]:
    """Both vectors from the Gram matrix of the smaller side."""
    dense = dense_jacobian(flat)
    dense = dense.astype(accumulate_dtype(dense.dtype))
    largest = jnp.max(jnp.abs(dense), axis=(1, 2), keepdims=True)
    finite = jnp.isfinite(largest[:, 0, 0])
    dense = dense / jnp.where(largest > 0, largest, 1)
    wide = dense.shape[1] <= dense.shape[2]
    equation = "nij,nkj->nik" if wide else "nji,njk->nik"
    gram = jnp.einsum(equation, dense, dense, precision="highest")
    # eigh never returns for some backends' non-finite input.
    gram = jnp.where(finite[:, None, None], gram, 0)
    first = jnp.linalg.eigh(gram)[1][:, :, -1]
    second = jnp.einsum("ni,nij->nj" if wide else "ni,nji->nj", first, dense, precision="highest")
    second = unit(second)
    left, right = (first, second) if wide else (second, first)
    return left, right, finite


def _by_lanczos(
    flat: FlatJacobian, key: Array, tolerance: float, max_steps: int | None
) -> tuple[Array, Array, Array]:
    def find(there: Product, back: Product, start: Array) -> Leading:
        return leading_singular_vector(there, back, start, tolerance=tolerance, max_steps=max_steps)

    return on_smaller_side(flat, key, find)


def on_smaller_side(
    flat: FlatJacobian, key: Array, find: Callable[[Product, Product, Array], Leading]
) -> tuple[Array, Array, Array]:
    """Both vectors by products alone, and which have converged.

    Args:
        flat: the Jacobians.
        key: for a random start.
        find: of the products from the side of fewer dimensions and back, and a start there, to
            the vector there.
    """
    dtype = accumulate_dtype(common_dtype((flat.inputs.dtype, flat.outputs.dtype)))
    wide = flat.outputs.size < flat.inputs.size
    there, back = (flat.vjp, flat.jvp) if wide else (flat.jvp, flat.vjp)
    side, like = (flat.outputs, flat.lin.value) if wide else (flat.inputs, flat.lin.xs)
    start = side.flatten(draw(key, like, "gaussian")).astype(dtype)
    found = find(lambda v: there(v).astype(dtype), lambda u: back(u).astype(dtype), start)
    other = unit(there(found.vector).astype(dtype))
    left, right = (found.vector, other) if wide else (other, found.vector)
    return left, right, found.converged
