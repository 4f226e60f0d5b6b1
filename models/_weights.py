"""The parameters of a network apart from its framework and layout.

A dictionary by layer, each `{"kernel": ..., "bias": ...}` with convolution kernels in the
canonical order (spatial, in, out) and dense kernels as (in, out).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ._activations import initializer
from .conv import ConvLayout, transpose_axes

Weights = dict[str, dict[str, jax.Array]]


def draw_weights(spec: Any, key: jax.Array) -> Weights:
    """Initial parameters: kernels by the specification's initialiser, biases 0."""
    shapes = spec.kernel_shapes()
    keys = jax.random.split(key, len(shapes))
    init, dtype = initializer(spec.initializer), jax.dtypes.canonicalize_dtype(float)
    return {
        name: {"kernel": init(key, shape, dtype), "bias": jnp.zeros(shape[-1], dtype)}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def framework_of(model: Any) -> str:
    """The framework of a network: a (module, variables) pair is linen.

    Raises: TypeError for anything but a network that `models.build` makes in three frameworks.
    """
    module = model[0] if isinstance(model, tuple) and len(model) == 2 else model
    package = type(module).__module__.split(".")
    frameworks = {"nnx": "nnx", "linen": "linen", "eqx": "equinox"}
    if package[0] != __package__ or len(package) < 2 or package[1] not in frameworks:
        raise TypeError(
            "Expected a network of models.build: an nnx or Equinox module, or for linen the pair "
            f"(module, variables), got {type(model).__name__}."
        )
    framework = frameworks[package[1]]
    if (framework == "linen") != isinstance(model, tuple):
        raise TypeError("A linen network is the pair (module, variables); give both.")
    return framework


def spec_of(model: Any) -> Any:
    """The specification that a network was made from."""
    return (model[0] if isinstance(model, tuple) else model).spec


def read_weights(model: Any) -> Weights:
    """The parameters of a network in the canonical order."""
    framework, kernel_axes = framework_of(model), _kernel_axes(spec_of(model))
    if framework == "linen":
        layers = {name: model[1]["params"][name] for name in kernel_axes}
    elif framework == "nnx":
        layers = {
            name: {"kernel": layer.kernel[...], "bias": layer.bias[...]}
            for name, layer in model.named_layers().items()
        }
    else:
        layers = {name: _equinox_arrays(layer) for name, layer in model.named_layers().items()}
    return {
        name: {
            "kernel": _permute(layers[name]["kernel"], *axes),
            "bias": jnp.asarray(layers[name]["bias"]),
        }
        for name, axes in kernel_axes.items()
    }


def place_weights(model: Any, weights: Weights) -> Any:
    """The network with these parameters; an nnx module is changed and returned."""
    framework, kernel_axes = framework_of(model), _kernel_axes(spec_of(model))
    own = {
        name: {**weights[name], "kernel": _permute(weights[name]["kernel"], *reversed(axes))}
        for name, axes in kernel_axes.items()
    }
    if framework == "linen":
        module, variables = model
        return module, {**variables, "params": own}
    if framework == "nnx":
        for name, layer in model.named_layers().items():
            layer.kernel[...] = own[name]["kernel"]
            layer.bias[...] = own[name]["bias"]
        return model
    return _place_equinox(model, own)


def _kernel_axes(spec: Any) -> dict[str, tuple[str, str]]:
    """For each layer its kernel's own and canonical axes; dense kernels have one order."""
    layout: ConvLayout = spec.layout
    axes = {4: (layout.kernel, layout.canonical.kernel), 2: ("IO", "IO")}
    return {name: axes[len(shape)] for name, shape in spec.kernel_shapes().items()}


def _permute(kernel: jax.Array, source: str, target: str) -> jax.Array:
    return transpose_axes(jnp.asarray(kernel), source, target)


def _equinox_arrays(layer: Any) -> dict[str, jax.Array]:
    # equinox.nn.Linear keeps (out, in).
    kernel = layer.kernel if hasattr(layer, "kernel") else layer.weight.T
    return {"kernel": kernel, "bias": layer.bias}


def _place_equinox(model: Any, own: Weights) -> Any:
    import equinox as eqx

    def leaves(model):
        return [
            leaf
            for layer in model.named_layers().values()
            for leaf in (layer.kernel if hasattr(layer, "kernel") else layer.weight, layer.bias)
        ]

    values = [
        value
        for name, layer in model.named_layers().items()
        for value in (
            own[name]["kernel"] if hasattr(layer, "kernel") else own[name]["kernel"].T,
            own[name]["bias"],
        )
    ]
    return eqx.tree_at(leaves, model, values)
