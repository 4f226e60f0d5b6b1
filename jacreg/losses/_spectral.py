"""The spectral norm of each example's Jacobian as a penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._checks import check_count
from .._linearize import Linearization
from .._probes import draw
from .._sharding import match_varying
from .._structure import accumulate_dtype, example_norm
from ._checks import check_key, check_linearization, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def spectral_penalty(
    lin: Linearization,
    *,
    key: Array | None = None,
    num_iterations: int,
    start: PyTree | None = None,
) -> Float[Array, " N"]:
    """Largest singular value of each example's Jacobian, ||J v|| after power iteration.

    A lower bound at any number of iterations; the relative error falls as
    (sigma_2 / sigma_1)^(4 k). The norm itself, not its square. The gradient is that of
    ||J v|| with v held fixed (Danskin's theorem: exact for the converged v), so the
    iteration is not differentiated; a second derivative leaves out how v turns.

    Source: power iteration as in Yoshida and Miyato 2017, here on the input-output
    Jacobian (Johansson et al. 2022, Cui et al. 2022); factor 1 for penalties on sigma_1.

    Args:
        lin: from `linearize`; both directions are needed.
        key: for the random start; not needed with `start`.
        num_iterations: products with J^T J before the last product; 2 k + 1 in all.
        start: `[N, *in]`, vectors to begin with in place of random ones, as
            `right_singular_vector` returns them: for the same examples again.

    Returns:
        `[N]`; 0, with gradient 0, where the Jacobian is zero.

    Raises:
        ValueError: neither key nor start, `num_iterations` is not positive, or the start
            does not have the shape of `xs`.
        TypeError: (DirectionError) the function lacks a direction.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs * jnp.array([3.0, 1.0]), jnp.zeros((2, 2)))
        >>> jacreg.losses.spectral_penalty(lin, key=jax.random.key(0), num_iterations=20)
        Array([3., 3.], dtype=float32)
    """
    vector = _iterate("spectral_penalty", lin, key, num_iterations, start)
    return example_norm(lin.jvp(vector)).astype(lin.outputs.dtype)


def right_singular_vector(
    lin: Linearization,
    *,
    key: Array | None = None,
    num_iterations: int,
    start: PyTree | None = None,
) -> Float[Array, "N *in"]:
    """Unit vector that each example's Jacobian stretches most, by power iteration.

    To warm-start `spectral_penalty`: on the same examples a few iterations from the last
    vectors do what many do from random ones. Detached: no gradient flows into it.

    Args:
        lin: from `linearize`; both directions are needed.
        key: for the random start; not needed with `start`.
        num_iterations: products with J^T J.
        start: `[N, *in]`, vectors to begin with.

    Raises:
        ValueError: neither key nor start, `num_iterations` is not positive, or the start
            does not have the shape of `xs`.
        TypeError: (DirectionError) the function lacks a direction.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs * jnp.array([5.0, 0.1]), jnp.ones((1, 2)))
        >>> key = jax.random.key(0)
        >>> found = jacreg.losses.right_singular_vector(lin, key=key, num_iterations=5)
        >>> abs(found).round()
        Array([[1., 0.]], dtype=float32)
    """
    return _iterate("right_singular_vector", lin, key, num_iterations, start)


def _iterate(
    who: str, lin: Linearization, key: Array | None, num_iterations: int, start: PyTree | None
) -> PyTree:
    check_linearization(who, lin)
    check_count(who, "num_iterations", num_iterations)
    if start is None:
        start = draw(check_key(who, key), lin.xs, "gaussian")
    else:
        check_same_shape(who, "start", start, lin.xs, "xs")
        start = jax.tree.map(lambda v, x: jnp.asarray(v, x.dtype), start, lin.xs)
    frozen = jax.lax.stop_gradient(lin)

    def step(_: int, vector: PyTree) -> PyTree:
        return _normalize(frozen.vjp(_normalize(frozen.jvp(vector))))

    begin = match_varying(_normalize(start), lin.xs)
    vector = jax.lax.fori_loop(0, num_iterations, step, begin)
    return jax.lax.stop_gradient(vector)


def _normalize(tree: PyTree) -> PyTree:
    """Each example over its norm; a zero one stays zero."""
    norm = example_norm(tree)
    safe = jnp.where(norm > 0, norm, 1)

    def divided(x: Array) -> Array:
        wide = accumulate_dtype(x.dtype)
        length = safe.reshape((-1,) + (1,) * (x.ndim - 1)).astype(wide)
        return (x.astype(wide) / length).astype(x.dtype)

    return jax.tree.map(divided, tree)
