"""Make a network by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jacreg._nearest import unknown

from ._layers import is_stateful
from ._networks import NETWORKS, Network, check_framework, network_class
from ._weights import Weights, draw_weights, place_weights
from .conv import ConvLayout


def build(
    name: str,
    *,
    framework: str | None = None,
    layout: ConvLayout | Sequence[str] | None = None,
    key: jax.Array,
    **options: Any,
) -> Any:
    """Make a network: `models.build("lenet", framework="linen", layout=layout, key=key)`.

    Equal keys give equal functions in every framework and layout where the network has several.

    Arguments:
      name: one of `models.names()`.
      framework: "nnx", "linen" or "equinox"; where None nnx, or Equinox for a network that nnx
        has not.
      layout: the order of the axes of images and kernels, a `ConvLayout` or three strings;
        NHWC, HWIO, NHWC where None. Images come in the layout's own order; Equinox networks
        take one example, the layout less its batch axis.
      key: a key of `jax.random.key`.
      options: those of the network's specification, such as `num_classes`, `dropout` or
        `input_shape` (spatial sizes, then channels, whatever the layout).

    Returns: an nnx or Equinox module; for linen the pair (module, variables), and in Equinox for
    a network with running statistics (a ResNet) the pair (model, state).

    Raises: ValueError for an unknown name, framework or option (it names the known ones and the
    nearest) or for a value out of range, TypeError for one of the wrong type.
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    network = NETWORKS[name]
    framework = network.frameworks[0] if framework is None else framework
    check_framework(framework, network.frameworks)
    for option in options:
        if option not in network.options:
            raise unknown(f"option of {name}", option, network.options)
    _check_key(key)
    spec = network.spec(layout=ConvLayout.of(layout), **{**dict(network.defaults), **options})
    # One draw for all frameworks where there are several.
    weights = draw_weights(spec, key) if len(network.frameworks) > 1 else None
    return construct(network, spec, framework, key, weights)


def names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(NETWORKS)


def construct(
    network: Network, spec: Any, framework: str, key: jax.Array, weights: Weights | None = None
) -> Any:
    """The network of a specification with these parameters, or with a draw of its own.

    `key` starts the draw and the dropout. Without `weights` a linen network cannot be made.
    """
    constructor = network_class(network, framework)
    if framework == "nnx":
        from flax import nnx

        params, dropout, noise = jax.random.split(key, 3)
        rngs = nnx.Rngs(params=params, dropout=dropout, noise=noise)
        model = constructor(spec, rngs=rngs)
        return model if weights is None else place_weights(model, weights)
    if framework == "linen":
        return place_weights((constructor(spec), {}), weights or {})
    if weights is None:
        return constructor(spec, key=key)
    import equinox as eqx

    if is_stateful(spec):
        constructor = eqx.nn.make_with_state(constructor)
    # Only the shapes of the network's own draw are needed here, so nothing is drawn.
    return place_weights(eqx.filter_eval_shape(constructor, spec, key=key), weights)


def _check_key(key) -> None:
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == jnp.uint32
    ):
        raise TypeError(f"key must be a key such as jax.random.key(0), got {key!r}.")
