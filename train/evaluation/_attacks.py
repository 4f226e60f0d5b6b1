"""White noise, the attacks FGSM, PGD and PGD in l2 on a classifier of bounded inputs.

`bounds` are the least and the largest value of an input: 0 and 1 for pixels, infinite where an
input has none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

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
    epsilon: Float[Array, ""] | float,
    steps: int,
    key: Array,
    bounds: Bounds = PIXELS,
) -> Float[Array, "N *in"]:
    """Projected gradient ascent in the epsilon ball from a random start (Madry et al. 2018).

    Step size 2.5 epsilon / steps. Not to be called under jit: each step is a call of one program.
    Inside a loop XLA runs the convolutions of a ResNet-18 four times slower on two CPU cores.

    Args:
        logits: a function of pixels; `jax.tree_util.Partial(fn, weights)` serves other weights
            and further batches with the same program.
        pixels, labels: what is attacked.
        epsilon: radius of the ball.
        steps: of ascent.
        key: for the start.
        bounds: least and largest value of an input.
    """
    logits = _shared(logits)
    attacked = _start(pixels, epsilon, key, bounds)
    for _ in range(steps):
        attacked = _ascend(logits, attacked, pixels, labels, epsilon, 2.5 * epsilon / steps, bounds)
        jax.block_until_ready(attacked)  # so that a signal waits for one step alone
    return attacked


def pgd_l2(
    logits: Logits,
    pixels: Float[Array, "N *in"],
    labels: Int[Array, " N"],
    epsilon: Float[Array, ""] | float,
    steps: int,
    key: Array,
    bounds: Bounds = PIXELS,
) -> Float[Array, "N *in"]:
    """Projected gradient ascent in the l2 ball from a random start, as `pgd`.

    Steps of 2.5 epsilon / steps along the gradient's direction. What is clipped to the bounds
    comes nearer to the pixels, so it stays in the ball.
    """
    logits = _shared(logits)
    epsilon = epsilon * (1 - 1e-6)  # rounding must not leave the ball
    attacked = _start_l2(pixels, epsilon, key, bounds)
    for _ in range(steps):
        attacked = _ascend_l2(
            logits, attacked, pixels, labels, epsilon, 2.5 * epsilon / steps, bounds
        )
        jax.block_until_ready(attacked)  # so that a signal waits for one step alone
    return attacked


def _shared(logits: Logits) -> Logits:
    """Return a function as an argument of a compiled step."""
    return logits if isinstance(logits, Partial) else Partial(logits)


def _ball(pixels: Array, epsilon: Any, bounds: Bounds) -> tuple[Array, Array]:
    return jnp.clip(pixels - epsilon, *bounds), jnp.clip(pixels + epsilon, *bounds)


@partial(jax.jit, static_argnames="bounds")
def _start(pixels: Array, epsilon: Any, key: Array, bounds: Bounds) -> Array:
    start = pixels + jax.random.uniform(key, pixels.shape, pixels.dtype, -epsilon, epsilon)
    return jnp.clip(start, *_ball(pixels, epsilon, bounds))


@partial(jax.jit, static_argnames="bounds")
def _ascend(
    logits: Logits,
    attacked: Array,
    pixels: Array,
    labels: Array,
    epsilon: Any,
    size: Any,
    bounds: Bounds,
) -> Array:
    moved = attacked + size * jnp.sign(_gradient(logits, attacked, labels))
    return jnp.clip(moved, *_ball(pixels, epsilon, bounds))


@partial(jax.jit, static_argnames="bounds")
def _start_l2(pixels: Array, epsilon: Any, key: Array, bounds: Bounds) -> Array:
    start = jax.random.normal(key, pixels.shape, pixels.dtype)
    return _within(pixels, pixels + epsilon * start / _lengths(start), epsilon, bounds)


@partial(jax.jit, static_argnames="bounds")
def _ascend_l2(
    logits: Logits,
    attacked: Array,
    pixels: Array,
    labels: Array,
    epsilon: Any,
    size: Any,
    bounds: Bounds,
) -> Array:
    gradient = _gradient(logits, attacked, labels)
    moved = attacked + size * gradient / jnp.maximum(_lengths(gradient), 1e-12)
    return _within(pixels, moved, epsilon, bounds)


def _within(pixels: Array, moved: Array, epsilon: Any, bounds: Bounds) -> Array:
    """Return what is nearest in the l2 ball around the pixels, clipped to the bounds."""
    change = moved - pixels
    shrunk = change * jnp.minimum(1, epsilon / jnp.maximum(_lengths(change), 1e-12))
    return jnp.clip(pixels + shrunk, *bounds)


def _lengths(values: Array) -> Array:
    squares = jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True)
    return jnp.sqrt(squares)


def _gradient(logits: Logits, pixels: Array, labels: Array) -> Array:
    """Return the gradient of the summed cross-entropy: row n is that of example n."""

    def loss(pixels: Array) -> Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(pixels), labels)
        return jnp.sum(losses)

    return jax.grad(loss)(pixels)
