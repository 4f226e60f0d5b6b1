"""The arrays of an Equinox network's layers, by the names of `models._weights`."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from ._batch_norm import BatchNorm


def read_arrays(layer: Any, state: eqx.nn.State | None) -> dict[str, jax.Array]:
    """The arrays of one layer, kernels in the layer's own layout, dense ones as `(in, out)`."""
    found = {
        part: getattr(layer, field)
        for part, field in _fields(layer).items()
        if getattr(layer, field) is not None
    }
    if "kernel" in found:
        found["kernel"] = _turned(layer, found["kernel"])
    if isinstance(layer, BatchNorm) and state is not None:
        found["mean"], found["var"] = state.get(layer.statistics)
    return found


def place_arrays(model: Any, arrays: dict[str, dict[str, jax.Array]]) -> Any:
    """The network, or the pair (network, state), with these arrays."""
    network, state = model if isinstance(model, tuple) else (model, None)
    layers = dict(network.layers)
    for name, layer in layers.items():
        own = dict(arrays[name])
        if isinstance(layer, BatchNorm):
            # Not `State.set`, which would void the state that it was called on.
            statistics = own.pop("mean"), own.pop("var")
            state = _with(state, layer.statistics, statistics)
        if "kernel" in own:
            own["kernel"] = _turned(layer, own["kernel"])
        fields = _fields(layer)
        names = [fields[part] for part in own]
        layers[name] = eqx.tree_at(
            lambda layer, names=names: [getattr(layer, each) for each in names],
            layer,
            list(own.values()),
        )
    network = eqx.tree_at(lambda network: network.layers, network, layers)
    return network if state is None else (network, state)


def _fields(layer: Any) -> dict[str, str]:
    """What the layer calls its arrays: dense layers of Equinox have a weight."""
    named = {"kernel": "kernel" if hasattr(layer, "kernel") else "weight"}
    named |= {"bias": "bias", "scale": "scale"}
    return {part: field for part, field in named.items() if hasattr(layer, field)}


def _turned(layer: Any, kernel: Any) -> Any:
    """Dense layers of Equinox keep (out, in); they call it a weight, as convolutions may."""
    return kernel if hasattr(layer, "kernel") or kernel.ndim != 2 else kernel.T


def _with(state: Any, index: Any, value: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf, state).set(index, value)
