"""Small dense networks as plain functions, for measurements of many of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Layers = list[tuple[Any, Any]]


def initial(key: Array, widths: Sequence[int], gain: Any = 1.0) -> Layers:
    """Return kernels `[in, out]` from N(0, gain^2 / in) and zero biases, one pair a layer."""
    keys = jax.random.split(key, len(widths) - 1)
    return [
        (gain / jnp.sqrt(1.0 * rows) * jax.random.normal(each, (rows, columns)), jnp.zeros(columns))
        for each, rows, columns in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def sizes(layers: Layers) -> tuple[int, ...]:
    """Return the widths, from the input to the output."""
    return (layers[0][0].shape[0], *(kernel.shape[1] for kernel, _ in layers))


def hidden(
    layers: Layers, xs: Float[Array, "N D"], activation: str, noise: Sequence[Any] | None = None
) -> list[Float[Array, "N width"]]:
    """Return the activations h_0 = xs, h_1, ..., one for each layer's input.

    Args:
        activation: "elu", "relu" or "tanh".
        noise: added to each of them, one array each; the layers after see it.
    """
    act = {"elu": jax.nn.elu, "relu": jax.nn.relu, "tanh": jax.nn.tanh}[activation]
    found = [xs if noise is None else xs + noise[0]]
    for number, (kernel, bias) in enumerate(layers[:-1], 1):
        after = act(found[-1] @ kernel + bias)
        found.append(after if noise is None else after + noise[number])
    return found


def rest(layers: Layers, start: int, activation: str) -> Any:
    """Return the network from the input of layer `start` on, `[N, width] -> [N, outputs]`."""

    def after(hs: Float[Array, "N width"]) -> Float[Array, "N K"]:
        kernel, bias = layers[-1]
        return hidden(layers[start:], hs, activation)[-1] @ kernel + bias

    return after


def outputs(layers: Layers, xs: Float[Array, "N D"], activation: str) -> Float[Array, "N K"]:
    """Return the last layer's output, without an activation."""
    return rest(layers, 0, activation)(xs)


def minimised(
    loss: Callable[[Any, Array, Array], Array], start: Any, key: Array, steps: int, rate: float
) -> Any:
    """Return what Adam with a cosine schedule reaches, every step with a key of its own.

    Args:
        loss: `(params, key, share of the steps that are done) -> loss`.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    @jax.jit
    def train(start: Any) -> Any:
        def step(number: Any, carry: Any) -> Any:
            params, state = carry
            gradient = jax.grad(loss)(params, jax.random.fold_in(key, number), number / steps)
            change, state = optimizer.update(gradient, state)
            return optax.apply_updates(params, change), state

        return jax.lax.fori_loop(0, steps, step, (start, optimizer.init(start)))[0]

    return train(start)
