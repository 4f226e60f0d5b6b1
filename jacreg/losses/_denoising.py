"""Score matching without a derivative of the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._probes import draw
from .._structure import accumulate_dtype, common_dtype, example_dot, example_squared_norm
from ._checks import (
    check_batch,
    check_function,
    check_key,
    check_same_shape,
    check_scale,
    per_example,
    traced_once,
)
from ._noise_injection import shift

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def denoising_score_matching(
    score: Callable[[Any], Any],
    xs: Float[Array, "N *in"],
    *,
    scale: Float[Array, ""] | Float[Array, " N"] | float,
    key: Array | None,
) -> Float[Array, " N"]:
    """Denoising score matching, 1/2 ||s(x + scale e) + e / scale||^2 with e ~ N(0, I).

    Its mean is 1/2 E ||s - grad log p_scale||^2 up to a constant, with p_scale the data
    smoothed by N(0, scale^2). One call of the score, no derivative in x.

    Source: Vincent 2011 (A connection between score matching and denoising
    autoencoders), factor 1. Noise-conditional networks (Song and Ermon 2019) weight
    each level by scale^2; the code of sliced score matching by scale^4.

    Args:
        score: `[N, *in] -> [N, *in]`; close over a noise level or condition.
        xs: `[N, *in]`, clean, a pytree of such.
        scale: standard deviation of the noise in units of the input, a positive
            number or one for each example, `[N]`; may be traced.
        key: a new one every step.

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the scale is not positive and finite, the key is missing, or the
            score does not have the shape of `xs`.
        TypeError: `xs` is not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.denoising_score_matching(
        ...     lambda xs: -xs, jnp.zeros((2, 3)), scale=1.0, key=jax.random.key(0)
        ... )
        Array([0., 0.], dtype=float32)
    """
    who = "denoising_score_matching"
    check_function(who, "score", score)
    xs, num_examples = check_batch(who, xs)
    scale = check_scale(who, scale, num_examples)
    noise = draw(check_key(who, key), xs, "gaussian")
    scores = score(shift(xs, noise, scale))
    check_same_shape(who, "the score", scores, xs, "xs")

    def residual(s: Array, e: Array) -> Array:
        wide = accumulate_dtype(s.dtype)
        return s.astype(wide) + e.astype(wide) / per_example(scale.astype(wide), e.astype(wide))

    return _half_squared_norm(jax.tree.map(residual, scores, noise), scores)


def finite_difference_score_matching(
    score: Callable[[Any], Any],
    xs: Float[Array, "N *in"],
    *,
    scale: Float[Array, ""] | Float[Array, " N"] | float,
    key: Array | None,
) -> Float[Array, " N"]:
    """Sliced score matching by central differences: two calls of the score, no derivative.

    v^T (s(x + scale v) - s(x - scale v)) / (2 scale) + 1/8 ||s(x + scale v) + s(x - scale v)||^2
    with v uniform on the sphere of radius sqrt(d), so E[v v^T] = I: the
    variance-reduced `sliced_score_matching` with an error of O(scale^2). In float32 a
    scale below about 1e-3 of the data's own loses digits to cancellation.

    Source: Pang et al. 2020 (Efficient Learning of Generative Models via
    Finite-Difference Score Matching), FD-SSM for score networks with variance
    reduction, factor 1; their step eps is the length of the whole perturbation, eps =
    scale * sqrt(d) with d the number of dimensions.

    Args:
        score: `[N, *in] -> [N, *in]`, traced once: both calls draw the same dropout masks.
            For a log density on rows, `jax.grad(lambda x: log_density(x).sum())`.
        xs: `[N, *in]`, a pytree of such.
        scale: step a dimension (root mean square) in units of the input, a positive
            number or one for each example, `[N]`; may be traced.
        key: a new one every step.

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the scale is not positive and finite, the key is missing, or the
            score does not have the shape of `xs`.
        TypeError: `xs` is not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.finite_difference_score_matching(
        ...     jnp.zeros_like, jnp.ones((2, 3)), scale=0.5, key=jax.random.key(0)
        ... )
        Array([0., 0.], dtype=float32)
    """
    who = "finite_difference_score_matching"
    check_function(who, "score", score)
    xs, num_examples = check_batch(who, xs)
    scale = check_scale(who, scale, num_examples)
    probe = draw(check_key(who, key), xs, "sphere")
    return finite_difference_terms(who, traced_once(score, xs), xs, probe, scale)


def finite_difference_terms(
    who: str, score: Callable[[Any], Any], xs: PyTree, probe: PyTree, scale: Array
) -> Float[Array, " N"]:
    """The objective for one slice."""
    ahead = score(shift(xs, probe, scale))
    check_same_shape(who, "the score", ahead, xs, "xs")
    behind = score(shift(xs, probe, -scale))
    slope = jax.tree.map(lambda a, b: (a - b) / per_example(2 * scale, a), ahead, behind)
    mean = jax.tree.map(lambda a, b: 0.5 * (a + b), ahead, behind)
    return example_dot(probe, slope) + 0.5 * example_squared_norm(mean)


def _half_squared_norm(wide: PyTree, like: PyTree) -> Float[Array, " N"]:
    dtype = common_dtype([leaf.dtype for leaf in jax.tree.leaves(like)])
    return (0.5 * example_squared_norm(wide)).astype(dtype)
