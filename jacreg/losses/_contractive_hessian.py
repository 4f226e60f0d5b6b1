"""The Hessian term of the higher-order contractive autoencoder (CAE+H)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._checks import check_count
from .._frobenius import frobenius_squared
from .._linearize import linearize
from .._methods import Method, Projection
from .._probes import draw, mean_over_probes
from ._checks import check_batch, check_function, check_key, check_rows, check_scale
from ._noise_injection import shift

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def contractive_hessian_penalty(
    encoder: Callable[[Any], Any],
    xs: Float[Array, "N *in"],
    *,
    scale: Float[Array, ""] | Float[Array, " N"] | float,
    num_probes: int = 1,
    key: Array | None,
    method: Method = Projection(),
) -> Float[Array, " N"]:
    """Mean squared change of the Jacobian under noise, E ||J(x + e) - J(x)||_F^2.

    With e ~ N(0, scale^2); to first order it is scale^2 times the squared norm of the
    Hessian tensor. Not divided by scale^2, and without the Jacobian term: add
    `contractive_penalty`. Unbiased for the expectation at this scale.

    Source: the stochastic second term of Rifai et al. 2011 (Higher Order Contractive
    Auto-Encoder, ECML), gamma * mean over n_c corruptions of ||J(x) - J(x + e)||_F^2:
    our weight is their gamma, `num_probes` their n_c, and `method=Exact()` their
    estimator. By default one random projection a noise, the same at x and at x + e, so
    that it is the difference that is projected.

    Args:
        encoder: `[N, *in] -> [N, *out]`, pure: both calls must draw the same dropout masks.
        xs: `[N, *in]`, a pytree of such.
        scale: standard deviation of the noise in units of the input, a number or one for
            each example, `[N]`; zero gives zero; may be traced.
        num_probes: independent noises an example; each takes two calls of the encoder.
        key: a new one every step.
        method: for the norm of the difference, as for `frobenius_squared`: `Projection()`
            or `Exact()`.

    Returns:
        `[N]`, sums over hidden units and inputs.

    Raises:
        ValueError: the scale is negative or not finite, the key is missing, `num_probes`
            is not positive, or the encoder changes the batch size.
        TypeError: `xs` or the output is not floating point, or the method does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.contractive_hessian_penalty(
        ...     lambda xs: xs @ jnp.ones((3, 2)), jnp.zeros((4, 3)),
        ...     scale=0.1, num_probes=2, key=jax.random.key(0),
        ... )
        Array([0., 0., 0., 0.], dtype=float32)
    """
    who = "contractive_hessian_penalty"
    check_function(who, "encoder", encoder)
    xs, num_examples = check_batch(who, xs)
    scale = check_scale(who, scale, num_examples, zero=True)
    check_count(who, "num_probes", num_probes)

    def sample(sample_key: Array) -> Float[Array, " N"]:
        noise_key, probe_key = jax.random.split(sample_key)
        noise = draw(noise_key, xs, "gaussian")

        # The Jacobian of the difference is the difference of the Jacobians.
        def difference(xs: PyTree) -> PyTree:
            before = check_rows(who, "encoder", encoder(xs), num_examples)
            after = encoder(shift(xs, noise, scale))
            return jax.tree.map(lambda a, b: a - b, after, before)

        return frobenius_squared(linearize(difference, xs), method, key=probe_key)

    return mean_over_probes(sample, check_key(who, key), num_probes)
