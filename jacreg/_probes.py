"""Random probes with identity covariance, and means over several of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from ._convolution import run_with_products
from ._interpret import calls_back
from ._methods import Distribution
from ._probe_groups import read_plan
from ._sharding import explicit_sharding, is_spread, match_varying
from ._structure import accumulate_dtype, example_squared_norm

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


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
    pairs = zip(draws, leaves, strict=True)
    return jax.tree.unflatten(
        treedef, [match_varying(d.astype(leaf.dtype), leaf) for d, leaf in pairs]
    )


def mean_over_probes(sample: Callable[[Array], PyTree], key: Array, num_probes: int) -> PyTree:
    """Mean of `sample(key)`, leaf by leaf, over `num_probes` keys; one probe uses `key` itself."""
    if num_probes == 1:
        return sample(key)
    samples = sample_probes(sample, key, num_probes)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), samples)


def sample_probes(sample: Callable[[Array], PyTree], key: Array, num_probes: int) -> PyTree:
    """Stack `sample(key)` for `num_probes` keys along a new first axis, in groups."""
    keys = jax.random.split(key, num_probes)
    if num_probes == 1:
        return jax.tree.map(lambda x: x[None], sample(keys[0]))
    return map_probes(sample, keys)


def multiply_columns(
    product: Callable[[Array], Array], vectors: Float[Array, "N n k"]
) -> Float[Array, "N m k"]:
    """`product` of each of k vectors an example, in groups as `map_probes` has them."""
    columns = jnp.moveaxis(vectors, 2, 0)
    return jnp.moveaxis(map_probes(lambda v: product(v).astype(v.dtype), columns), 0, 2)


def map_probes(fn: Callable[[Array], PyTree], probes: Array) -> PyTree:
    """Stack `fn(probe)` over the rows of `probes` `[K, ...]` (keys or vectors).

    Groups of bounded size share a pass, one group after the other; `read_plan` says how many. What
    `fn` gives is what one after the other would, to rounding.
    """
    count = len(probes)
    # Traced once, read, then run.
    like = jax.eval_shape(lambda probes: probes[0], probes)  # a look at a key is a use of it
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(like)
    run, treedef = jex.jaxpr_as_fun(closed), jax.tree.structure(shapes)

    def one(probe: Array) -> PyTree:
        return jax.tree.unflatten(treedef, run(probe))

    if calls_back(closed.jaxpr) or is_spread(closed.consts):
        return jax.lax.map(one, probes)
    run = partial(run_with_products, closed)
    plan = read_plan(closed, count)
    if plan.at_once == count:
        return jax.vmap(one)(probes)
    body = jax.checkpoint(one) if plan.again else one
    return jax.lax.map(body, probes, batch_size=plan.at_once if plan.at_once > 1 else None)
