"""What a trace can know of where arrays live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from jaxtyping import Array

    from ._typing import PyTree


def explicit_sharding(leaf: Array) -> Any:
    """The leaf's sharding where the mesh is in explicit mode and splits it, else None."""
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    spec = getattr(sharding, "spec", ())
    return sharding if any(axis is not None for axis in spec) else None


def match_sharding(array: Array, like: Array) -> Array:
    """Put an array into the (explicit) sharding of another of its shape."""
    sharding = explicit_sharding(like)
    return array if sharding is None else jax.sharding.reshard(array, sharding)


def is_spread(tree: PyTree) -> bool:
    """Whether a batch lives on several devices, as far as a trace can know.

    An explicit mesh shows in the type; an automatic one only while `jax.set_mesh` holds
    (elsewhere pass `chunk_size=1` to exact methods). Inside `jax.shard_map` the answer is yes,
    even with one device: types name the mesh's axes there.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and (mesh.size > 1 or mesh.manual_axes):
        return True
    return any(explicit_sharding(leaf) is not None for leaf in jax.tree.leaves(tree))
