"""A surrogate for the nuclear norm of the Jacobian of a composition."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._probes import draw
from ._checks import check_batch, check_function, check_key, check_rows, check_scale, traced_once
from ._noise_injection import response_to_noise

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def nuclear_norm_penalty(
    outer: Callable[[Any], Any],
    inner: Callable[[Any], Any],
    xs: Float[Array, "N *in"],
    *,
    scale: Float[Array, ""] | Float[Array, " N"] | float,
    key: Array | None,
) -> Float[Array, " N"]:
    """Upper bound on the nuclear norm of J_f, f = outer after inner, by noise alone.

    1/(2 scale^2) (||g(h(x) + e) - g(h(x))||^2 + ||h(x + e') - h(x)||^2), g = outer, h = inner,
    with independent e, e' ~ N(0, scale^2). As scale -> 0 its mean is
    1/2 (||J_g(h(x))||_F^2 + ||J_h(x)||_F^2) >= ||J_f(x)||_*, with equality at the best
    factorisation. Four calls, two of each function; no derivative in x.

    Source: Scarvelis and Solomon 2024 (Nuclear Norm Regularization for Deep Learning);
    our weight is their eta.

    Args:
        outer: g, `[N, *mid] -> [N, *out]`, traced once: both calls draw the same dropout masks.
        inner: h, `[N, *in] -> [N, *mid]`, likewise.
        xs: `[N, *in]`, a pytree of such.
        scale: standard deviation of the noises, a positive number or one for
            each example, `[N]`; may be traced.
        key: a new one every step.

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the scale is not positive and finite, the key is missing, or a
            function loses the batch axis.
        TypeError: an input or output is not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.nuclear_norm_penalty(
        ...     jnp.tanh, jnp.sin, jnp.zeros((2, 3)), scale=0.1, key=jax.random.key(0)
        ... ).shape
        (2,)
    """
    who = "nuclear_norm_penalty"
    check_function(who, "outer", outer)
    check_function(who, "inner", inner)
    xs, num_examples = check_batch(who, xs)
    scale = check_scale(who, scale, num_examples)
    outer_key, inner_key = jax.random.split(check_key(who, key))
    inner = traced_once(inner, xs)
    middle = check_rows(who, "inner", inner(xs), num_examples)
    outer = traced_once(outer, middle)
    outer_noise = draw(outer_key, middle, "gaussian")
    inner_noise = draw(inner_key, xs, "gaussian")
    of_outer = response_to_noise(who, "outer", outer, middle, outer_noise, scale)
    of_inner = response_to_noise(who, "inner", inner, xs, inner_noise, scale, before=middle)
    return 0.5 * (of_outer + of_inner)
