"""The arrays of a network apart from its framework and layout.

A dictionary by layer, each a dictionary by name: a "kernel" in the canonical order (spatial, in,
out; dense ones in, out), a "bias", a "scale", and the running "mean" and "var" of a normalisation.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ._layers import is_stateful
from .conv import transpose_axes

Weights = dict[str, dict[str, jax.Array]]
PARTS = ("kernel", "bias", "scale", "mean", "var")


def draw_weights(spec: Any, key: jax.Array) -> Weights:
    """Initial arrays of a specification's layers, each by a key of its own."""
    layers = spec.layers()
    keys = jax.random.split(key, len(layers))
    return {
        name: layer.draw(each) for each, (name, layer) in zip(keys, layers.items(), strict=True)
    }


def framework_of(model: Any) -> str:
    """The framework of a network, or of the pair of one with its arrays.

    Raises: TypeError for anything but a network that `models.build` makes.
    """
    module = module_of(model)
    package = type(module).__module__.split(".")
    frameworks = {"nnx": "nnx", "linen": "linen", "eqx": "equinox"}
    if package[0] != __package__ or len(package) < 2 or package[1] not in frameworks:
        raise TypeError(
            "Expected a network of models.build: an nnx or Equinox module, or for linen the pair "
            f"(module, variables), got {type(model).__name__}."
        )
    framework = frameworks[package[1]]
    if framework == "linen" and module is model:
        raise TypeError("A linen network is the pair (module, variables); give both.")
    if framework == "equinox" and (module is model) == is_stateful(module.spec):
        raise TypeError(
            "An Equinox network with running statistics is the pair (model, state) of "
            "models.build; give both. Any other is the model alone."
        )
    return framework


def module_of(model: Any) -> Any:
    """The module of a network, which is it or the first of a pair."""
    return model[0] if isinstance(model, tuple) and len(model) == 2 else model


def read_weights(model: Any) -> Weights:
    """The arrays of a network, kernels in the canonical order."""
    framework, module = framework_of(model), module_of(model)
    layers = module.spec.layers()
    if framework == "linen":
        own = {name: model[1]["params"][name] for name in layers}
    elif framework == "nnx":
        own = {
            name: {
                part: getattr(made, part)[...]
                for part in PARTS
                if getattr(made, part, None) is not None
            }
            for name, made in module.named_layers().items()
        }
    else:
        from .eqx._arrays import read_arrays

        state = None if module is model else model[1]
        own = {name: read_arrays(made, state) for name, made in module.named_layers().items()}
    return {name: _permuted(own[name], layer.kernel_axes) for name, layer in layers.items()}


def place_weights(model: Any, weights: Weights) -> Any:
    """The network with these arrays; an nnx module is changed and returned."""
    framework, module = framework_of(model), module_of(model)
    own = {
        name: _permuted(weights[name], layer.kernel_axes and layer.kernel_axes[::-1])
        for name, layer in module.spec.layers().items()
    }
    if framework == "linen":
        return module, {**model[1], "params": own}
    if framework == "nnx":
        for name, made in module.named_layers().items():
            for part, array in own[name].items():
                getattr(made, part)[...] = array
        return model
    from .eqx._arrays import place_arrays

    return place_arrays(model, own)


def _permuted(arrays: dict[str, Any], axes: tuple[str, str] | None) -> dict[str, jax.Array]:
    """The arrays with the kernel's axes brought from one order to the other."""
    arrays = {part: jnp.asarray(array) for part, array in arrays.items()}
    if axes is not None:
        arrays["kernel"] = transpose_axes(arrays["kernel"], *axes)
    return arrays
