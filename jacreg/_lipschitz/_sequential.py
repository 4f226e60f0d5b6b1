"""The bound of layers in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._bounds._lipschitz_bound import apart_and_alike, lipschitz_bound

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Entry by entry, so that the size does not matter.
_ELEMENTWISE = (
    jax.nn.relu, jax.nn.relu6, jnp.tanh, jax.nn.tanh, jax.nn.sigmoid, jax.nn.softplus, jax.nn.gelu,
    jax.nn.silu, jax.nn.elu, jax.nn.celu, jax.nn.selu, jax.nn.mish, jax.nn.leaky_relu,
    jax.nn.hard_tanh, jax.nn.soft_sign, jax.nn.log_sigmoid, jnp.abs, jnp.sin, jnp.cos,
)  # fmt: skip


def check_layers(layers: Any) -> list[Callable[..., Any]]:
    """Return them as a list, or raise unless each is callable.

    Raises:
        TypeError: they are not.
    """
    if callable(layers) or not isinstance(layers, Sequence) or not all(map(callable, layers)):
        raise TypeError(
            "LipschitzSequential: layers must be a list of layers or functions, got "
            f"{type(layers).__name__}."
        )
    return list(layers)


def sequential_bound(
    layers: Sequence[Callable[..., Any]],
    in_shape: tuple[int, ...] | None,
    batched: Callable[[Any], Callable[..., Any]] = lambda layer: layer,
) -> Float[Array, ""]:
    """The product of the layers' bounds; `batched` makes one a function of a batch.

    Raises:
        ValueError: a layer's bound depends on its input's size, and that is unknown; or layers mix
            the rows of a batch, whose size is unknown.
    """
    if in_shape is not None:
        struct = jax.ShapeDtypeStruct((1, *in_shape), jnp.result_type(float))
        of_batches = [batched(layer) for layer in layers]
        bound = lipschitz_bound(of_batches, struct)
        if not apart_and_alike(of_batches, jax.ShapeDtypeStruct((2, *in_shape), struct.dtype)):
            raise ValueError(
                "LipschitzSequential: the layers mix the rows of a batch, or do not do the same to "
                "each, so that their bound depends on its size; call "
                "jacreg.lipschitz_bound(layers, xs) with the batch."
            )
        return bound
    total: Any = jnp.ones(())
    for index, layer in enumerate(layers):
        own = getattr(layer, "lipschitz_bound", None)
        if callable(own):
            total = total * own()
        elif any(layer is each for each in _ELEMENTWISE):
            struct = jax.ShapeDtypeStruct((1, 4), jnp.result_type(float))
            total = total * lipschitz_bound(layer, struct)
        else:
            name = getattr(layer, "__name__", type(layer).__name__)
            raise ValueError(
                f"LipschitzSequential: the bound of layer {index} ({name}) depends on the size of "
                "its input, which is unknown; give LipschitzSequential(layers, in_shape=...), the "
                "shape of one input without a batch axis."
            )
    return total
