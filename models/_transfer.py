"""Carry weights between frameworks and layouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from ._build import construct
from ._networks import NETWORKS, check_framework
from ._weights import framework_of, module_of, read_weights
from .conv import ConvLayout


def transfer(
    model: Any,
    framework: str,
    layout: ConvLayout | Sequence[str] | None = None,
) -> Any:
    """The same function in another framework or layout: equal logits to float accuracy.

    Convolution kernels are transposed; dense kernels are the same in every layout, because
    images are flattened in one canonical order. The given model is left as it is. The new one
    is in train mode as after `models.build`; its dropout, if any, starts at a fixed key.

    Arguments:
      model: a network of `models.build` that several frameworks have; for linen the pair
        (module, variables), for an Equinox ResNet the pair (model, state).
      framework: "nnx", "linen" or "equinox".
      layout: the new layout; the model's own where None.

    Returns: what `models.build` returns for the framework; running statistics go along.

    Raises: ValueError for an unknown framework or one without this network, or for a layout of
    other spatial letters; TypeError for what is no network of `models.build`.
    """
    check_framework(framework)
    source = framework_of(model)
    module = module_of(model)
    spec, class_name = module.spec, type(module).__name__
    network = next(each for each in NETWORKS.values() if each.class_name == class_name)
    if len(network.frameworks) == 1:
        raise ValueError(f"{class_name} exists in {source} alone, so it cannot be transferred.")
    if framework not in network.frameworks:
        raise ValueError(
            f"{class_name} exists in {' and '.join(network.frameworks)}, not in {framework}."
        )
    target = spec.layout if layout is None else ConvLayout.of(layout)
    if sorted(target.spatial_dims) != sorted(spec.layout.spatial_dims):
        raise ValueError(
            f"The model's layout has the spatial letters {spec.layout.spatial_dims!r}, the new one "
            f"{target.spatial_dims!r}: both must have the same."
        )
    weights = read_weights(model)
    spec = dataclasses.replace(spec, layout=target)
    return construct(network, spec, framework, jax.random.key(0), weights)
