"""White noise, the attacks FGSM, PGD and PGD in l2 on a classifier of bounded inputs.

`bounds` are the least and the largest value of an input: 0 and 1 for pixels, infinite where an
input has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

Logits = Callable[[Any], Any]
Bounds = tuple[float, float]
PIXELS: Bounds = (0.0, 1.0)


def white_noise(
    pixels: Float[Array, "N *in"],
    scale: Float[Array, ""],
    key: Array,
    bounds: Bounds = PIXELS,
) -> Float[Array, "N *in"]:
    """Add N(0, scale^2) to every entry and clip to the bounds."""
    noise = scale * jax.random.normal(key, pixels.shape, pixels.dtype)
    return jnp.clip(pixels + noise, *bounds)


def fgsm(
    logits: Logits,
    pixels: Float[Array, "N *in"],
    labels: Int[Array, " N"],
    epsilon: Float[Array, ""],
    bounds: Bounds = PIXELS,
) -> Float[Array, "N *in"]:
    """One step of size epsilon along the sign of the loss gradient (Goodfellow et al. 2015)."""
    return jnp.clip(pixels + epsilon * jnp.sign(_gradient(logits, pixels, labels)), *bounds)


def pgd(
    logits: Logits,
    pixels: Float[Array, "N *in"],
    labels: Int[Array, " N"],
    epsilon: Float[Array, ""],
    steps: int,
    key: Array,
    bounds: Bounds = PIXELS,
) -> Float[Array, "N *in"]:
    """Projected gradient ascent in the epsilon ball from a random start (Madry et al. 2018).

    Step size 2.5 epsilon / steps.
    """
    low, high = jnp.clip(pixels - epsilon, *bounds), jnp.clip(pixels + epsilon, *bounds)
    start = pixels + jax.random.uniform(key, pixels.shape, pixels.dtype, -epsilon, epsilon)
    size = 2.5 * epsilon / steps

    def ascend(_: Any, attacked: Array) -> Array:
        return jnp.clip(attacked + size * jnp.sign(_gradient(logits, attacked, labels)), low, high)

    return jax.lax.fori_loop(0, steps, ascend, jnp.clip(start, low, high))


def pgd_l2(
    logits: Logits,
    pixels: Float[Array, "N *in"],
    labels: Int[Array, " N"],
    epsilon: Float[Array, ""],
    steps: int,
    key: Array,
    bounds: Bounds = PIXELS,
) -> Float[Array, "N *in"]:
    """Projected gradient ascent in the l2 ball from a random start (Madry et al. 2018).

    Steps of 2.5 epsilon / steps along the gradient's direction. What is clipped to the bounds
    comes nearer to the pixels, so it stays in the ball.
    """
    epsilon = epsilon * (1 - 1e-6)  # rounding must not leave the ball
    size = 2.5 * epsilon / steps

    def lengths(values: Array) -> Array:
        squares = jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True)
        return jnp.sqrt(squares)

    def within(moved: Array) -> Array:
        change = moved - pixels
        shrunk = change * jnp.minimum(1, epsilon / jnp.maximum(lengths(change), 1e-12))
        return jnp.clip(pixels + shrunk, *bounds)

    def ascend(_: Any, attacked: Array) -> Array:
        gradient = _gradient(logits, attacked, labels)
        return within(attacked + size * gradient / jnp.maximum(lengths(gradient), 1e-12))

    start = jax.random.normal(key, pixels.shape, pixels.dtype)
    start = within(pixels + epsilon * start / lengths(start))
    return jax.lax.fori_loop(0, steps, ascend, start)


def _gradient(logits: Logits, pixels: Array, labels: Array) -> Array:
    """Return the gradient of the summed cross-entropy: row n is that of example n."""

    def loss(pixels: Array) -> Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(pixels), labels)
        return jnp.sum(losses)

    return jax.grad(loss)(pixels)
