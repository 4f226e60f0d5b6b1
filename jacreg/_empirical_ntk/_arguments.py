"""What a user passes, checked: parameters, examples and outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._errors import DirectionError
from .._sharding import replicate
from .._structure import BatchStructure
from ._blocks import length

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

    RowFunction = Callable[[list[Array], PyTree], Float[Array, "N M"]]


def over_floats(apply: Callable[..., Any], params: PyTree) -> tuple[list[Array], Any]:
    """The floating-point leaves, and `apply` as a function of them."""
    leaves, treedef = jax.tree.flatten(params)
    is_float = [
        (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating))
        or isinstance(leaf, float)
        for leaf in leaves
    ]
    if not any(is_float):
        raise TypeError(
            "empirical_ntk: params has no floating-point leaf to differentiate; pass the "
            f"network's parameters, got {treedef}."
        )

    def call(values: list[Array], batch: PyTree) -> PyTree:
        given = iter(values)
        merged = [next(given) if f else leaf for f, leaf in zip(is_float, leaves, strict=True)]
        return apply(jax.tree.unflatten(treedef, merged), batch)

    return [jnp.asarray(x) for x, f in zip(leaves, is_float, strict=True) if f], call


def as_arrays(name: str, batch: PyTree) -> PyTree:
    try:
        batch = jax.tree.map(jnp.asarray, batch)
    except OverflowError as error:
        raise ValueError(f"empirical_ntk: {name} is too large a number: {error}.") from None
    leaves = jax.tree.leaves(batch)
    if not leaves or any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"empirical_ntk: {name} must be a batch [N, *in], got {batch!r}.")
    return replicate(batch)


def check_output(call: Any, floats: list[Array], batch: PyTree, name: str) -> BatchStructure:
    shapes = jax.eval_shape(call, floats, batch)
    for leaf in jax.tree.leaves(shapes):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"empirical_ntk: apply must return floating-point values, got {leaf.dtype}; "
                "return logits rather than labels."
            )
        if leaf.shape[:1] != (length(batch),):
            raise ValueError(
                f"empirical_ntk: apply must keep the batch axis: {name} has "
                f"N={length(batch)}, the output has shape {tuple(leaf.shape)}. Return one row "
                "an example, not a sum or a mean."
            )
    return BatchStructure.of(shapes)


def directions(rows: RowFunction, floats: list[Array], xs: PyTree) -> tuple[bool, bool]:
    """Whether there is a reverse mode in the parameters, and whether a forward mode.

    Raises:
        DirectionError: neither works.
    """
    first = jax.tree.map(lambda x: x[:1], xs)
    errors = []
    for transform in (jax.jacrev, jax.jacfwd):
        try:
            jax.eval_shape(transform(lambda v: rows(v, first)), floats)
        except (TypeError, ValueError, NotImplementedError) as error:
            errors.append((transform, error))
    if len(errors) == 2:
        raise DirectionError(
            "empirical_ntk: apply has neither a reverse-mode nor a forward-mode derivative in its "
            f"parameters: {errors[0][1]}"
        ) from errors[0][1]
    failed = [transform for transform, _ in errors]
    return jax.jacrev not in failed, jax.jacfwd not in failed
