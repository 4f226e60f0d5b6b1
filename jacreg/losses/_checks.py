"""What a loss may be given: one clear error for what it may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from .._choice import Quantity
from .._coloring import Coloring
from .._errors import note_mistake
from .._keys import check_key as check_one_key
from .._linearize import check_linearization as check_linearization
from .._methods import Exact, require_key

if TYPE_CHECKING:
    from jaxtyping import Array

    from .._typing import PyTree


def check_method_key(who: str, quantity: Quantity, method: Any, key: Any) -> None:
    """Raise, in the loss's own name, where a stochastic method of what it takes has no key."""
    if type(method) in quantity.methods and not isinstance(method, Exact | Coloring):
        require_key(who, method, key)


def check_function(who: str, name: str, fn: Any) -> None:
    """Raise unless `fn` can be called."""
    if not callable(fn):
        raise TypeError(f"{who}: {name} must be a function of a batch, got {type(fn).__name__}.")


def traced_once(fn: Callable[..., Any], xs: PyTree) -> Callable[[PyTree], PyTree]:
    """The function of the batch, traced here: what it draws is the same in every call.

    Raises:
        TraceContextError: it is an nnx module that changes its variables when it is called.
    """
    try:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(xs)
    except Exception as error:
        note_mistake(error, xs, fn)
        raise
    tree, run = jax.tree.structure(shapes), jex.jaxpr_as_fun(closed)
    return lambda xs: jax.tree.unflatten(tree, run(*jax.tree.leaves(xs)))


def check_batch(who: str, xs: PyTree, name: str = "xs") -> tuple[PyTree, int]:
    """Return the batch as arrays and N, or raise: floating point, one batch axis."""
    xs = jax.tree.map(jnp.asarray, xs)
    leaves = jax.tree.leaves(xs)
    if not leaves:
        raise ValueError(f"{who}: {name} holds no array; pass a batch [N, *in].")
    for x in leaves:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{who}: {name} must be floating point, got {x.dtype}; cast it "
                f"({name}.astype(jnp.float32))."
            )
        if x.ndim == 0:
            raise ValueError(f"{who}: {name} must have a batch axis [N, *in], got a scalar.")
    return xs, _common_length(who, name, leaves)


def check_rows(who: str, name: str, ys: PyTree, num_examples: int) -> PyTree:
    """Return what a function gave for the batch, or raise: floating point, N rows."""
    leaves = jax.tree.leaves(ys)
    if not leaves:
        raise ValueError(f"{who}: {name} returned no array; it must return [N, *out].")
    for y in leaves:
        if not jnp.issubdtype(jnp.result_type(y), jnp.floating):
            raise TypeError(
                f"{who}: {name} must return floating-point values, got {jnp.result_type(y)}."
            )
        if jnp.ndim(y) == 0 or jnp.shape(y)[0] != num_examples:
            raise ValueError(
                f"{who}: {name} must keep the batch axis: the batch has N={num_examples}, the "
                f"output has shape {jnp.shape(y)}. Return one row an example, not a sum or a "
                "mean; a per-example function is jax.vmap(fn)."
            )
    return ys


def check_same_shape(who: str, name: str, got: PyTree, like: PyTree, like_name: str) -> None:
    """Raise unless two pytrees have one structure and the same shapes."""
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (got, like)]
    if jax.tree.structure(got) != jax.tree.structure(like) or shapes[0] != shapes[1]:
        raise ValueError(
            f"{who}: {name} must have the shape of {like_name}, {shapes[1]}, got {shapes[0]}."
        )


def check_key(who: str, key: Any) -> Array:
    """Return `key`, or raise because there is none, or something else."""
    if key is None:
        raise ValueError(
            f"{who}: this loss is stochastic and needs a key; pass "
            "key=jax.random.key(seed), a new one every step."
        )
    check_one_key(who, "key", key)
    return key


def check_scale(
    who: str,
    scale: Any,
    num_examples: int | None = None,
    *,
    name: str = "scale",
    what: str = "a standard deviation in units of the input",
    zero: bool = False,
) -> Array:
    """Return a noise scale, a length or a margin as an array, a scalar or one an example, or raise.

    A traced scale is checked for its shape alone: its value is not known.
    """
    if isinstance(scale, bool | str | complex) or scale is None:
        raise TypeError(f"{who}: {name} must be a real number, got {scale!r}.")
    try:
        array = jnp.asarray(scale)
    except OverflowError:
        raise ValueError(f"{who}: {name} must be a real number, got {scale}.") from None
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{who}: {name} must be a real number, got dtype {array.dtype}.")
    allowed = [()] if num_examples is None else [(), (num_examples,)]
    if array.shape not in allowed:
        expected = "a scalar" if num_examples is None else f"a scalar or shape ({num_examples},)"
        raise ValueError(f"{who}: {name} must be {expected}, got shape {array.shape}.")
    try:
        values = np.asarray(array, dtype=np.float64)
    except jax.errors.TracerArrayConversionError:
        return array
    if not np.all(np.isfinite(values)) or np.any(values < 0) or (not zero and np.any(values == 0)):
        sign = "non-negative" if zero else "positive"
        raise ValueError(f"{who}: {name} must be {sign} and finite, {what}; got {scale}.")
    return array


def per_example(scale: Array, leaf: Array) -> Array:
    """A scale, scalar or `[N]`, shaped and typed to multiply a leaf `[N, *shape]`."""
    if scale.ndim:
        scale = scale.reshape((-1,) + (1,) * (leaf.ndim - 1))
    return scale.astype(leaf.dtype)


def _common_length(who: str, name: str, leaves: list[Array]) -> int:
    sizes = {x.shape[0] for x in leaves}
    if len(sizes) > 1:
        raise ValueError(
            f"{who}: the leaves of {name} must share the batch axis, got lengths {sorted(sizes)}."
        )
    return sizes.pop()
