"""What a trace can know of where arrays live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array

    from ._typing import PyTree


def explicit_sharding(leaf: Array) -> Any:
    """The leaf's sharding where the mesh is in explicit mode and splits it, else None."""
    sharding = getattr(_type(leaf), "sharding", None)
    spec = getattr(sharding, "spec", ())
    return sharding if any(axis is not None for axis in spec) else None


def match_sharding(array: Array, like: Array) -> Array:
    """Put an array where another of its shape is: explicit sharding, axes that it varies along.

    The other may be a type alone, of a variable of a program.
    """
    sharding = explicit_sharding(like)
    array = array if sharding is None else jax.sharding.reshard(array, sharding)
    return match_varying(array, like)


def reshape_rows(array: Array, shape: Sequence[int]) -> Array:
    """Reshape what stands after the first axis, which may be split over devices."""
    sharding = explicit_sharding(array)
    if sharding is None:
        return array.reshape((array.shape[0], *shape))
    spec = jax.sharding.PartitionSpec(sharding.spec[0], *(None for _ in shape))
    return jax.lax.reshape(array, (array.shape[0], *shape), out_sharding=spec)


def replicate(tree: PyTree) -> PyTree:
    """Put arrays that are (explicitly) split on every device whole."""

    def whole(leaf: Array) -> Array:
        if explicit_sharding(leaf) is None:
            return leaf
        return jax.sharding.reshard(leaf, jax.sharding.PartitionSpec())

    return jax.tree.map(whole, tree)


def fold_in_position(key: Array, batch: PyTree, names: Sequence[Any]) -> Array:
    """Make one key another on each part of a batch that is split along named axes.

    Under `jax.shard_map` the types say which axes those are. Without its check, under `jax.pmap` or
    a `jax.vmap` with an `axis_name`, they do not: there an axis counts where the parts differ.
    """
    if not names:
        return key
    leaves = jax.tree.leaves(batch)
    known = frozenset().union(*map(_varying, leaves))
    for name in names:
        index = jax.lax.axis_index(name)
        if name in known:
            key = jax.random.fold_in(key, index)
        elif not _varying(index):
            digest = _digest(leaves)
            split = jax.lax.pmax(digest, name) != jax.lax.pmin(digest, name)
            key = jax.random.fold_in(key, jnp.where(split, index + 1, 0))
    return key


def _digest(leaves: Sequence[Array]) -> Array:
    """A number that parts of a batch share if they are the same, whatever the order of a sum."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in leaves:
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32).reshape(-1)
        places = jnp.arange(bits.size, dtype=jnp.uint32) * jnp.uint32(2654435761) + jnp.uint32(1)
        total = total * jnp.uint32(31) + jnp.sum(bits * places, dtype=jnp.uint32)
    return total


def match_varying(tree: PyTree, like: PyTree) -> PyTree:
    """Let arrays vary, to `jax.shard_map`, along the axes along which any of `like` does.

    Zeros and probes are the same on all devices and loops want one type from step to step.
    """
    axes = frozenset().union(*(_varying(leaf) for leaf in jax.tree.leaves(like)))

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(axes - _varying(leaf))) if axes else ()
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def _type(leaf: Any) -> Any:
    is_type = isinstance(leaf, jax.core.ShapedArray)  # pyright: ignore[reportAttributeAccessIssue]
    return leaf if is_type else jax.typeof(leaf)


def _varying(leaf: Any) -> frozenset[str]:
    aval = _type(leaf)
    # The name of the attribute differs between releases of JAX.
    manual = getattr(aval, "mat", None)
    return getattr(aval, "vma", frozenset()) if manual is None else manual.varying


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
