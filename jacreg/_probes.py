"""Random probes with identity covariance, and means over several of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._methods import Distribution
from ._structure import accumulate_dtype, example_squared_norm

if TYPE_CHECKING:
    from jaxtyping import Array, Float

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
    (elsewhere pass `chunk_size=1` to exact methods).
    """
    mesh = jax.sharding.get_abstract_mesh()
    return (not mesh.empty and mesh.size > 1) or any(
        explicit_sharding(leaf) is not None for leaf in jax.tree.leaves(tree)
    )


def draw(key: Array, like: PyTree, distribution: Distribution) -> PyTree:
    """One probe an example, shaped and sharded as `like`, with E[v v^T] = I.

    The sphere's probes have length sqrt(n): the factor n of Hoffman's estimator is
    part of the probe, so that every distribution enters a formula the same way.
    """
    leaves, treedef = jax.tree.flatten(like)
    keys = [key] if len(leaves) == 1 else list(jax.random.split(key, len(leaves)))
    # Low-precision probes would quantise the Gaussian; the result is cast at the end.
    draws = []
    for leaf_key, leaf in zip(keys, leaves, strict=True):
        wide = accumulate_dtype(leaf.dtype)
        sharding = explicit_sharding(leaf)
        if distribution == "rademacher":
            signs = jax.random.rademacher(leaf_key, leaf.shape, jnp.int32, out_sharding=sharding)
            draws.append(signs.astype(wide))
        else:
            draws.append(jax.random.normal(leaf_key, leaf.shape, wide, out_sharding=sharding))
    if distribution == "sphere":
        size = sum(leaf.size // max(leaf.shape[0], 1) for leaf in leaves)
        squared = example_squared_norm(draws)
        scale = jnp.sqrt(size / jnp.where(squared > 0, squared, 1))
        draws = [d * scale.reshape((-1,) + (1,) * (d.ndim - 1)).astype(d.dtype) for d in draws]
    return jax.tree.unflatten(
        treedef, [d.astype(leaf.dtype) for d, leaf in zip(draws, leaves, strict=True)]
    )


def mean_over_probes(
    sample: Callable[[Array], Float[Array, " *shape"]], key: Array, num_probes: int
) -> Float[Array, " *shape"]:
    """Mean of `sample(key)` over `num_probes` keys; one probe uses `key` itself."""
    if num_probes == 1:
        return sample(key)
    return jnp.mean(sample_probes(sample, key, num_probes), axis=0)


def sample_probes(sample: Callable[[Array], PyTree], key: Array, num_probes: int) -> PyTree:
    """Stack `sample(key)` for `num_probes` keys along a new first axis.

    One after the other: on CPU a vmap over probes turns convolutions into grouped
    or badly laid out ones and is slower by orders of magnitude, and everywhere it
    needs memory for all probes at once. Where memory bandwidth is plentiful (GPU)
    small groups share a pass.
    """
    keys = jax.random.split(key, num_probes)
    if num_probes == 1:
        return jax.tree.map(lambda x: x[None], sample(keys[0]))
    group = 1 if jax.default_backend() == "cpu" else min(num_probes, 8)
    if group == 1:
        return jax.lax.map(sample, keys)
    return jax.lax.map(sample, keys, batch_size=group)
