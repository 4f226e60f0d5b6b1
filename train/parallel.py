"""The devices of a run: the batch along a mesh axis, everything else on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from train.config import Config

_AXIS = "data"


def make_mesh(config: Config) -> Mesh | None:
    """Return the mesh of `[parallel]`, None for one device.

    Raises:
        ConfigError: this machine has fewer devices, or the batch does not divide.
    """
    count, hosts = config.parallel.data, config.parallel.hosts
    if hosts != 1:
        raise ConfigError(
            f"parallel.hosts: got {hosts}, but this command runs on one host; expected 1."
        )
    if count == 1:
        return None
    devices = jax.devices()
    if count > len(devices):
        raise ConfigError(
            f"parallel.data: got {count}, but this machine has {len(devices)} "
            f"{devices[0].platform} device{'s' if len(devices) > 1 else ''}; expected at most "
            "that."
        )
    if config.data.batch_size % count:
        raise ConfigError(
            f"parallel.data: got {count}, but data.batch_size={config.data.batch_size} is not a "
            "multiple of it."
        )
    return Mesh(np.asarray(devices[:count]), (_AXIS,))


def split_rows(batch: PyTree, mesh: Mesh | None) -> PyTree:
    """Ask, inside jit, for the rows of a batch to be spread over the mesh."""
    if mesh is None:
        return batch
    sharding = NamedSharding(mesh, PartitionSpec(_AXIS))
    return jax.tree.map(lambda array: jax.lax.with_sharding_constraint(array, sharding), batch)


def on_all(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Put a copy of every array on every device of the mesh."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
