"""The devices of a run: the batch along a mesh axis, everything else on all of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from train.errors import ConfigError, reason

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from train.sections import Config

_AXIS = "data"
# Where the processes of a run on several hosts meet, and which of them this is.
COORDINATOR, PROCESS = "JACREG_COORDINATOR", "JACREG_PROCESS"


def join_hosts(config: Config) -> None:
    """Meet the other processes of a run with `parallel.hosts` above 1.

    Each host starts the same command with `JACREG_COORDINATOR=HOST:PORT` (the first host's, any
    free port) and `JACREG_PROCESS` = 0, 1, ...; on clusters that JAX knows neither is needed.

    Raises:
        ConfigError: this process has no place among the hosts, or they do not meet.
    """
    hosts = config.parallel.hosts
    if hosts == 1 or jax.distributed.is_initialized():
        return
    coordinator, process = os.environ.get(COORDINATOR), os.environ.get(PROCESS)
    given: dict[str, Any] = {}
    if coordinator is not None or process is not None:
        if coordinator is None or not _is_address(coordinator):
            raise ConfigError(
                f"parallel.hosts: got {hosts}, and {COORDINATOR}={coordinator}; expected "
                "HOST:PORT of the first process."
            )
        if process is None or not process.isdecimal() or int(process) >= hosts:
            raise ConfigError(
                f"parallel.hosts: got {hosts}, and {PROCESS}={process}; expected 0 to {hosts - 1}."
            )
        given = {
            "coordinator_address": coordinator,
            "num_processes": hosts,
            "process_id": int(process),
        }
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(**given)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"parallel.hosts: got {hosts}, but the processes do not meet "
            f"({reason(error, 200)}). Start the same command once a host with "
            f"{COORDINATOR}=HOST:PORT and {PROCESS}=0 to {hosts - 1}."
        ) from None
    if jax.process_count() != hosts:
        raise ConfigError(
            f"parallel.hosts: got {hosts}, but {jax.process_count()} processes have met."
        )


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdecimal() and 0 < int(port) < 65536)


def make_mesh(config: Config) -> Mesh | None:
    """Return the mesh of `[parallel]`, None for one device.

    Raises:
        ConfigError: there are fewer devices, or batch, parts and hosts do not divide.
    """
    count, hosts = config.parallel.data, config.parallel.hosts
    parts = config.training.accumulate
    if config.data.batch_size % (count * parts):
        product = f"{count} * training.accumulate={parts}" if parts > 1 else f"{count}"
        raise ConfigError(
            f"parallel.data: got {product}, but data.batch_size={config.data.batch_size} is "
            "not a multiple of it."
        )
    if count % hosts:
        raise ConfigError(
            f"parallel.data: got {count}, expected a multiple of parallel.hosts={hosts}: it "
            "counts the devices of all hosts together."
        )
    if count == 1:
        return None
    devices = []
    for process in range(hosts):
        own = [device for device in jax.devices() if device.process_index == process]
        if len(own) < count // hosts:
            raise ConfigError(
                f"parallel.data: got {count}, but this machine has {len(own)} "
                f"{own[0].platform} device{'s' if len(own) > 1 else ''}; expected at most "
                f"that{', from each host' if hosts > 1 else ''}."
            )
        devices += own[: count // hosts]
    return Mesh(np.asarray(devices), (_AXIS,))


def rows_along(mesh: Mesh | None, leading: int = 0) -> NamedSharding | None:
    """Return the sharding of rows over the mesh, after `leading` axes that are whole."""
    return mesh and NamedSharding(mesh, PartitionSpec(*(None,) * leading, _AXIS))


def split_rows(batch: PyTree, mesh: Mesh | None, leading: int = 0) -> PyTree:
    """Ask, inside jit, for the rows of a batch to be spread over the mesh."""
    sharding = rows_along(mesh, leading)
    if sharding is None:
        return batch
    return jax.tree.map(lambda array: jax.lax.with_sharding_constraint(array, sharding), batch)


def on_all(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Put a copy of every array on every device of the mesh."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _everywhere(leaf, sharding), tree)


def _everywhere(leaf: Any, sharding: NamedSharding) -> Any:
    """Put what every process has on the devices of all; each fills its own."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _everywhere(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return _placed(np.asarray(leaf), sharding)


def _placed(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def first_signal(received: int | None) -> int | None:
    """Return the signal that any of the processes received, the same on all."""
    if jax.process_count() == 1:
        return received
    from jax.experimental.multihost_utils import process_allgather

    found = np.asarray(process_allgather(np.asarray(received or 0)))
    return int(found.max()) or None


def rows_that_divide(count: int, mesh: Mesh | None) -> int:
    """Return the least number of rows, at least `count`, that divides over the mesh."""
    return count if mesh is None else -(-count // mesh.size) * mesh.size


def place_rows(batch: PyTree, mesh: Mesh | None) -> PyTree:
    """Put a batch, the same on every host, on the devices that share its rows."""
    sharding = rows_along(mesh)
    if sharding is None:
        return batch
    return jax.tree.map(lambda leaf: _placed(np.asarray(leaf), sharding), batch)


def fetch(tree: PyTree) -> PyTree:
    """Return arrays as numpy arrays, whole on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return jax.tree.map(
        lambda leaf: (
            process_allgather(leaf, tiled=True)
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
            else np.asarray(leaf)
        ),
        tree,
    )
