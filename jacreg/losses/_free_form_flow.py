"""The gradient of a log-determinant from an approximate inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from .._basis import first_direction
from .._linearize import Linearization, linearize
from .._methods import Projection
from .._probes import draw, mean_over_probes
from .._structure import example_dot
from ._checks import check_batch, check_function, check_key, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def free_form_flow_surrogate(
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any],
    xs: Float[Array, "N *in"],
    *,
    key: Array | None,
    num_probes: int = 1,
) -> Float[Array, " N"]:
    """Surrogate v^T (df/dx) sg(dg/dz v) whose gradient is that of the encoder's log |det df/dx|.

    f is the encoder, g the decoder, z = f(x) and E[v v^T] = I: where dg/dz inverts df/dx the
    mean of the gradient in the encoder's parameters is tr((df/dx)^-1 d(df/dx)), that of the
    log-determinant; near an inverse, as a reconstruction loss keeps the pair, nearly so. Its
    value is no log-determinant but about the number of latent dimensions. No gradient
    reaches the decoder. Two products a probe, one of each network.

    Source: Draxler et al. 2024 (Free-form Flows: Make Any Architecture a Normalizing Flow),
    factor 1 and signs for probes; with fewer latent dimensions than inputs Sorrenson et
    al. 2024 (Lifting Architectural Constraints of Injective Flows). The negative log-likelihood
    takes it with weight -1: `-log_prob(z) - surrogate`, beside a reconstruction loss.

    Args:
        encoder: f, `[N, *in] -> [N, *latent]`; close over conditions.
        decoder: g, `[N, *latent] -> [N, *in]`.
        xs: `[N, *in]`, a pytree of such.
        key: a new one every step.
        num_probes: how many v are averaged.

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the decoder does not return the shape of `xs`, `num_probes` is not
            positive, or the key is missing.
        TypeError: `xs` is not floating point, or (DirectionError) the decoder has no
            forward mode.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.free_form_flow_surrogate(
        ...     lambda xs: 2 * xs, lambda zs: zs / 2, jnp.ones((2, 3)), key=jax.random.key(0)
        ... )
        Array([3., 3.], dtype=float32)
    """
    who = "free_form_flow_surrogate"
    check_function(who, "encoder", encoder)
    check_function(who, "decoder", decoder)
    xs, _ = check_batch(who, xs)
    key, num_probes = check_key(who, key), Projection(num_probes).num_probes
    encoded = linearize(encoder, xs)
    decoded = linearize(decoder, jax.lax.stop_gradient(encoded.value), mode="forward")
    check_same_shape(who, "what the decoder returns", decoded.value, xs, "xs")

    def sample(probe_key: Array) -> Float[Array, " N"]:
        return surrogate_of_probe(encoded, decoded, draw(probe_key, encoded.value, "rademacher"))

    return mean_over_probes(sample, key, num_probes)


def surrogate_of_probe(
    encoded: Linearization, decoded: Linearization, probe: PyTree
) -> Float[Array, " N"]:
    """The surrogate for one probe an example, shaped as the latents."""
    tangent = jax.lax.stop_gradient(decoded.jvp(probe))
    return first_direction(
        encoded,
        lambda: example_dot(probe, encoded.jvp(tangent)),
        lambda: example_dot(encoded.vjp(probe), tangent),
        reverse_first=False,
    )
