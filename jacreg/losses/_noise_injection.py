"""A Jacobian penalty without a derivative: the response to injected noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._probes import draw
from .._structure import example_squared_norm
from ._checks import (
    check_batch,
    check_function,
    check_key,
    check_rows,
    check_scale,
    per_example,
    traced_once,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def noise_injection_penalty(
    fn: Callable[[Any], Any],
    xs: Float[Array, "N *in"],
    *,
    scale: Float[Array, ""] | Float[Array, " N"] | float,
    key: Array | None,
) -> Float[Array, " N"]:
    """Squared response to Gaussian noise, ||f(x + e) - f(x)||^2 / scale^2.

    With e ~ N(0, scale^2) its mean tends to ||J||_F^2 as scale -> 0; the bias is
    O(scale^2) where `fn` curves; a scale near the rounding of x measures rounding. No
    derivative of `fn` in x is taken, so it may lack one. It costs two calls of `fn`;
    where a Linearization exists already, `frobenius_squared(lin, NoiseInjection(scale))`
    is the same number (for the same key) from one more call.

    Source: the classical equivalence of training with noise and a Tikhonov term (Bishop
    1995), and the Jacobian-free terms of Scarvelis and Solomon 2024. Half of it
    compares with `jacobian_penalty`.

    Args:
        fn: `[N, *in] -> [N, *out]`, traced once: both calls draw the same dropout masks.
        xs: `[N, *in]`, a pytree of such.
        scale: standard deviation of the noise in units of the input, a positive
            number or one for each example, `[N]`; may be traced.
        key: a new one every step.

    Returns:
        `[N]`, sums over outputs.

    Raises:
        ValueError: the scale is not positive and finite, the key is missing, or `fn`
            loses the batch axis.
        TypeError: `xs` or the output is not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.noise_injection_penalty(
        ...     jnp.tanh, jnp.zeros((2, 3)), scale=0.01, key=jax.random.key(0)
        ... ).shape
        (2,)
    """
    who = "noise_injection_penalty"
    check_function(who, "fn", fn)
    xs, num_examples = check_batch(who, xs)
    scale = check_scale(who, scale, num_examples)
    noise = draw(check_key(who, key), xs, "gaussian")
    return response_to_noise(who, "fn", traced_once(fn, xs), xs, noise, scale)


def response_to_noise(
    who: str,
    name: str,
    fn: Callable[[Any], Any],
    xs: PyTree,
    noise: PyTree,
    scale: Array,
    before: PyTree | None = None,
) -> Float[Array, " N"]:
    """||f(x + scale v) - f(x)||^2 / scale^2; `before` is f(x) where it is known."""
    num_examples = jax.tree.leaves(xs)[0].shape[0]
    if before is None:
        before = check_rows(who, name, fn(xs), num_examples)
    after = fn(shift(xs, noise, scale))
    # Divided before it is squared: scale^2 underflows where the quotient does not.
    return example_squared_norm(
        jax.tree.map(lambda y, y0: (y - y0) / per_example(scale, y0), after, before)
    )


def shift(xs: PyTree, noise: PyTree, scale: Array) -> PyTree:
    """x + scale v."""
    return jax.tree.map(lambda x, v: x + per_example(scale, x) * v, xs, noise)
