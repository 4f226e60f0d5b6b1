"""White noise, the attacks FGSM, PGD and PGD in l2 on a classifier of bounded inputs.

`bounds` are the least and the largest value of an input: 0 and 1 for pixels, infinite where an
input has none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

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


class _Ball(NamedTuple):
    """What an attack's norm decides.

    Attributes:
        draw: `(key, pixels, epsilon)` to the way from the pixels to a random start.
        step: `(gradient, size)` to the way of a step of that length.
        nearest: `(pixels, moved, epsilon, bounds)` to what lies in the ball and the bounds.
        within: of epsilon, the radius of the ball that rounding must not leave.
    """

    draw: Callable[[Array, Array, Any], Array]
    step: Callable[[Array, Any], Array]
    nearest: Callable[[Array, Array, Any, Bounds], Array]
    within: float = 1.0


@partial(jax.jit, static_argnames=("ball", "bounds"))
def _start(ball: _Ball, pixels: Array, epsilon: Any, key: Array, bounds: Bounds) -> Array:
    return ball.nearest(pixels, pixels + ball.draw(key, pixels, epsilon), epsilon, bounds)


@partial(jax.jit, static_argnames=("ball", "bounds"))
def _ascend(
    ball: _Ball,
    logits: Logits,
    attacked: Array,
    pixels: Array,
    labels: Array,
    epsilon: Any,
    size: Any,
    bounds: Bounds,
) -> Array:
    moved = attacked + ball.step(_gradient(logits, attacked, labels), size)
    return ball.nearest(pixels, moved, epsilon, bounds)


def _uniform(key: Array, pixels: Array, epsilon: Any) -> Array:
    return jax.random.uniform(key, pixels.shape, pixels.dtype, -epsilon, epsilon)


def _clipped(pixels: Array, moved: Array, epsilon: Any, bounds: Bounds) -> Array:
    """Return what is nearest in the box around the pixels, clipped to the bounds."""
    low, high = jnp.clip(pixels - epsilon, *bounds), jnp.clip(pixels + epsilon, *bounds)
    return jnp.clip(moved, low, high)


def _on_sphere(key: Array, pixels: Array, epsilon: Any) -> Array:
    drawn = jax.random.normal(key, pixels.shape, pixels.dtype)
    return epsilon * drawn / _lengths(drawn)


def _to_corner(gradient: Array, size: Any) -> Array:
    return size * jnp.sign(gradient)


def _along(gradient: Array, size: Any) -> Array:
    return size * gradient / jnp.maximum(_lengths(gradient), 1e-12)


def _within(pixels: Array, moved: Array, epsilon: Any, bounds: Bounds) -> Array:
    """Return what is nearest in the l2 ball around the pixels, clipped to the bounds."""
    change = moved - pixels
    shrunk = change * jnp.minimum(1, epsilon / jnp.maximum(_lengths(change), 1e-12))
    return jnp.clip(pixels + shrunk, *bounds)


def _lengths(values: Array) -> Array:
    squares = jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)), keepdims=True)
    return jnp.sqrt(squares)


_LINF = _Ball(_uniform, _to_corner, _clipped)
_L2 = _Ball(_on_sphere, _along, _within, 1 - 1e-6)


def pgd(
    logits: Logits,
    pixels: Float[Array, "N *in"],
    labels: Int[Array, " N"],
    epsilon: Float[Array, ""] | float,
    steps: int,
    key: Array,
    bounds: Bounds = PIXELS,
    ball: _Ball = _LINF,
) -> Float[Array, "N *in"]:
    """Projected gradient ascent in the epsilon ball from a random start (Madry et al. 2018).

    Step size 2.5 epsilon / steps. Not to be called under jit: each step is a call of one program.
    Inside a loop XLA runs the convolutions of a ResNet-18 four times slower on two CPU cores.

    `pgd_l2` is the same in the l2 ball, with steps along the gradient's direction. What is clipped
    to the bounds comes nearer to the pixels, so it stays in the ball.

    Args:
        logits: a function of pixels; `jax.tree_util.Partial(fn, weights)` serves other weights
            and further batches with the same program.
    """
    logits = logits if isinstance(logits, Partial) else Partial(logits)
    epsilon = epsilon * ball.within
    size = 2.5 * epsilon / steps
    attacked = _start(ball, pixels, epsilon, key, bounds)
    for _ in range(steps):
        attacked = _ascend(ball, logits, attacked, pixels, labels, epsilon, size, bounds)
        jax.block_until_ready(attacked)  # so that a signal waits for one step alone
    return attacked


pgd_l2 = partial(pgd, ball=_L2)


def _gradient(logits: Logits, pixels: Array, labels: Array) -> Array:
    """Return the gradient of the summed cross-entropy: row n is that of example n."""

    def loss(pixels: Array) -> Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(pixels), labels)
        return jnp.sum(losses)

    return jax.grad(loss)(pixels)
