"""Log Frobenius norms of a network's layers, and the chain-rule bound that they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._frobenius import frobenius_squared
from ._linearize import linearize
from ._methods import Auto, CoupledBatch, Method

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


class LayerwiseLogFrobenius(NamedTuple):
    """Result of `layerwise_log_frobenius`.

    Attributes:
        per_layer: `[L, N]`, log ||J_l||_F of each layer at its own input.
        total: `[N]`, their sum, at least the log Frobenius norm of the composition.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> layers = [lambda xs: 2 * xs, lambda xs: 3 * xs]
        >>> found = jacreg.layerwise_log_frobenius(layers, jnp.ones((1, 1)))
        >>> jnp.exp(found.per_layer).round().tolist(), jnp.exp(found.total).round()
        ([[2.0], [3.0]], Array([6.], dtype=float32))
    """

    per_layer: Float[Array, "L N"]
    total: Float[Array, " N"]


def layerwise_log_frobenius(
    layers: Sequence[Callable[[PyTree], PyTree]],
    xs: Float[Array, "N *in"],
    method: Method = Auto(),
    *,
    key: Array | None = None,
) -> LayerwiseLogFrobenius:
    """Log Frobenius norm of each layer's Jacobian at its own input, and their sum.

    The Frobenius norm is submultiplicative, so the sum is an upper bound on the log
    Frobenius norm of the composition's Jacobian. One forward pass through the layers.

    A stochastic method estimates ||J||_F^2 without bias, but the log is concave: the
    result then lies below the true one in the mean, by about a quarter of the estimate's
    relative variance. More probes shrink that bias as 1 / num_probes.

    Args:
        layers: batched functions `[N, *] -> [N, *]`, applied one after the other.
        xs: `[N, *in]`, the first layer's input.
        method: as for `frobenius_squared`, without `CoupledBatch`, whose estimates may
            be negative.
        key: for the stochastic methods; each layer folds in its own index.

    Returns:
        `per_layer [L, N]` and `total [N]`; -inf where a Jacobian is zero, with
        gradient zero there. The squared norm must be a number of the dtype (in float32 a norm
        between about 1e-22 and 1e19): beyond, it is infinite.

    Raises:
        ValueError: there are no layers, or a stochastic method has no key.
        TypeError: `layers` is no sequence of functions, or the method does not fit.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> layers = [lambda xs: 2 * xs, lambda xs: 3 * xs]
        >>> jnp.exp(jacreg.layerwise_log_frobenius(layers, jnp.ones((1, 1))).total).round()
        Array([6.], dtype=float32)
    """
    return track_layers(layers, xs, method, key=key)[1]


def track_layers(
    layers: Sequence[Callable[[PyTree], PyTree]],
    xs: Float[Array, "N *in"],
    method: Any,
    *,
    key: Array | None,
) -> tuple[PyTree, LayerwiseLogFrobenius]:
    """Return the layers' output and `layerwise_log_frobenius`, from one forward pass."""
    if callable(layers) or not isinstance(layers, Sequence):
        raise TypeError(
            "layerwise_log_frobenius: layers must be a list or tuple of functions [N, *] -> "
            f"[N, *], got {type(layers).__name__}; write [layer_1, layer_2, ...]."
        )
    if not layers:
        raise ValueError("layerwise_log_frobenius: layers is empty; pass at least one function.")
    if isinstance(method, CoupledBatch):
        raise TypeError(
            "layerwise_log_frobenius: an estimate of CoupledBatch may be negative and has no "
            "log; use Auto() or Projection(...), with running statistics."
        )
    logs = []
    for index, layer in enumerate(layers):
        lin = linearize(layer, xs)
        layer_key = None if key is None else jax.random.fold_in(key, index)
        logs.append(_half_log(frobenius_squared(lin, method, key=layer_key)))
        xs = lin.value
    per_layer = jnp.stack(logs)
    return xs, LayerwiseLogFrobenius(per_layer, jnp.sum(per_layer, axis=0))


def _half_log(squared: Float[Array, " N"]) -> Float[Array, " N"]:
    """Log of the root, with gradient zero rather than nan where the norm is zero."""
    zero = squared == 0
    return jnp.where(zero, -jnp.inf, 0.5 * jnp.log(jnp.where(zero, 1, squared)))
