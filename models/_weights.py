"""The parameters of a network apart from its framework and layout.

A dictionary by layer, each `{"kernel": ..., "bias": ...}` with convolution kernels in the
canonical order (spatial, in, out) and dense kernels as (in, out); some have a "scale" too.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ._activations import initializer
from .conv import ConvLayout, transpose_axes

Weights = dict[str, dict[str, jax.Array]]


def draw_weights(spec: Any, key: jax.Array) -> Weights:
    """Initial parameters: the specification's own draw, or kernels by its initialiser."""
    if hasattr(spec, "draw_weights"):
        return spec.draw_weights(key)
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
            name: {part: getattr(layer, part)[...] for part in _parts(layer)}
            for name, layer in model.named_layers().items()
        }
    else:
        layers = {name: _equinox_arrays(layer) for name, layer in model.named_layers().items()}
    return {
        name: {
            **{part: jnp.asarray(array) for part, array in layers[name].items()},
            "kernel": _permute(layers[name]["kernel"], *axes),
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
            for part in _parts(layer):
                getattr(layer, part)[...] = own[name][part]
        return model
    return _place_equinox(model, own)


def _parts(layer: Any) -> tuple[str, ...]:
    """What a layer has of kernel, bias and scale, an Equinox layer's `weight` being its kernel."""
    return ("kernel", "bias", "scale") if hasattr(layer, "scale") else ("kernel", "bias")


def _kernel_axes(spec: Any) -> dict[str, tuple[str, str]]:
    """For each layer its kernel's own and canonical axes; dense kernels have one order."""
    layout: ConvLayout = spec.layout
    convolution = (layout.kernel, layout.canonical.kernel)
    return {
        name: ("IO", "IO") if len(shape) == 2 else convolution
        for name, shape in spec.kernel_shapes().items()
    }


def _permute(kernel: jax.Array, source: str, target: str) -> jax.Array:
    return transpose_axes(jnp.asarray(kernel), source, target)


def _equinox_field(layer: Any, part: str) -> str:
    return part if part != "kernel" or hasattr(layer, "kernel") else "weight"


def _transposed(layer: Any, array: Any) -> Any:
    # Dense layers of Equinox keep (out, in); they call it a weight, as convolutions may.
    return array if hasattr(layer, "kernel") or array.ndim != 2 else array.T


def _equinox_arrays(layer: Any) -> dict[str, jax.Array]:
    arrays = {part: getattr(layer, _equinox_field(layer, part)) for part in _parts(layer)}
    return {**arrays, "kernel": _transposed(layer, arrays["kernel"])}


def _place_equinox(model: Any, own: Weights) -> Any:
    import equinox as eqx

    def leaves(model):
        return [
            getattr(layer, _equinox_field(layer, part))
            for layer in model.named_layers().values()
            for part in _parts(layer)
        ]

    values = [
        _transposed(layer, own[name][part]) if part == "kernel" else own[name][part]
        for name, layer in model.named_layers().items()
        for part in _parts(layer)
    ]
    return eqx.tree_at(leaves, model, values)
