"""The L2 attack of Carlini and Wagner: how near is the nearest other class?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jacreg._convolution import as_products

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# The tanh that keeps pixels inside [0, 1] is not inverted at the ends themselves.
_INSIDE = 1 - 1e-6


class _Search(NamedTuple):
    low: Any
    high: Any
    weight: Any
    distance: Any


def carlini_wagner(
    logits: Callable[[Any], Any],
    pixels: Float[Array, "N *in"],
    labels: Int[Array, " N"],
    *,
    steps: int = 100,
    searches: int = 4,
    learning_rate: float = 0.05,
) -> Float[Array, " N"]:
    """Return the smallest L2 distance at which each example was misclassified, inf if at none.

    Minimises |x' - x|^2 + c max(z_label - max_other z, 0) with x' = (1 + tanh w) / 2 by Adam,
    `searches` times with the weight c found by bisection for each example (Carlini and Wagner
    2017, Towards Evaluating the Robustness of Neural Networks, section VI with their f_6 and
    kappa = 0). The distance is an upper bound of the true one, 0 where the example is
    misclassified as it is.

    Args:
        logits: `[N, *in] -> [N, classes]`, row n of row n alone.
        pixels: in [0, 1].
    """
    import optax

    logits = as_products(logits)
    axes = tuple(range(1, pixels.ndim))
    start = jnp.arctanh((2 * pixels - 1) * _INSIDE)
    optimizer = optax.adam(learning_rate)

    def margin(found: Any) -> Any:
        """Return z_label - max_other z: negative where another class wins."""
        rows = jnp.arange(len(labels))
        own = found[rows, labels]
        others = found.at[rows, labels].set(-jnp.inf).max(-1)
        return own - others

    def measured(w: Any) -> tuple[Any, Any]:
        attacked = (1 + jnp.tanh(w)) / 2
        return jnp.sum((attacked - pixels) ** 2, axes), margin(logits(attacked))

    def loss(w: Any, weight: Any) -> tuple[Any, Any]:
        squared, margins = measured(w)
        return jnp.sum(squared + weight * jnp.maximum(margins, 0)), (squared, margins)

    def descend(weight: Any) -> Any:
        """Return the smallest distance among the iterates that are misclassified."""

        def step(carry: Any, _: Any) -> tuple[Any, None]:
            w, state, best = carry
            gradient, (squared, margins) = jax.grad(loss, has_aux=True)(w, weight)
            best = jnp.where(margins < 0, jnp.minimum(best, squared), best)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(w, updates), state, best), None

        worst = jnp.full(labels.shape, jnp.inf)
        (w, _, best), _ = jax.lax.scan(step, (start, optimizer.init(start), worst), length=steps)
        squared, margins = measured(w)
        return jnp.where(margins < 0, jnp.minimum(best, squared), best)

    def search(carry: _Search, _: Any) -> tuple[_Search, None]:
        squared = descend(carry.weight)
        broken = jnp.isfinite(squared)
        low = jnp.where(broken, carry.low, carry.weight)
        high = jnp.where(broken, carry.weight, carry.high)
        # Tenfold until it breaks, halved from then on.
        weight = jnp.where(jnp.isfinite(high), (low + high) / 2, 10 * carry.weight)
        return _Search(low, high, weight, jnp.minimum(carry.distance, squared)), None

    plain = jnp.full(labels.shape, jnp.inf)
    begin = _Search(jnp.zeros_like(plain), plain, jnp.ones(labels.shape), plain)
    found, _ = jax.lax.scan(search, begin, length=searches)
    return jnp.where(margin(logits(pixels)) < 0, 0.0, jnp.sqrt(found.distance))
