"""Batches of pytrees as one vector an example, `[N, n]`, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._sharding import reshape_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


@dataclass(frozen=True)
class BatchStructure:
    """Shapes, dtypes and tree of a batch: what `flatten` undoes and `unflatten` restores."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]

    @classmethod
    def of(cls, tree: PyTree) -> BatchStructure:
        """Return the structure of a pytree of arrays `[N, *shape]`."""
        leaves, treedef = jax.tree.flatten(tree)
        return cls(treedef, tuple(x.shape[1:] for x in leaves), tuple(x.dtype for x in leaves))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of entries an example, leaf by leaf."""
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Number of entries an example, all leaves together."""
        return sum(self.sizes)

    @property
    def dtype(self) -> Any:
        """The dtype in which the flat vector holds every leaf without loss."""
        return common_dtype(self.dtypes) if self.dtypes else jnp.dtype("float32")

    def unflatten(self, flat: Float[Array, "N n"]) -> PyTree:
        """Split `[N, n]` into leaves `[N, *shape]`."""
        leaves, start = [], 0
        for shape, size, dtype in zip(self.shapes, self.sizes, self.dtypes, strict=True):
            part = flat if size == flat.shape[1] else flat[:, start : start + size]
            leaves.append(reshape_rows(part, shape).astype(dtype))
            start += size
        return jax.tree.unflatten(self.treedef, leaves)

    def flatten(self, tree: PyTree) -> Float[Array, "N n"]:
        """Join the leaves `[N, *shape]` of a pytree to `[N, n]`."""
        parts = [reshape_rows(x, (prod(x.shape[1:]),)) for x in jax.tree.leaves(tree)]
        if len(parts) == 1:
            return parts[0]
        return jnp.concatenate([part.astype(self.dtype) for part in parts], axis=1)

    def describe(self) -> str:
        """Return the shapes as a person would write them, batch axis first."""
        shown = [
            f"{jnp.dtype(d).name}[{', '.join(['N', *map(str, s)])}]"
            for s, d in zip(self.shapes, self.dtypes, strict=True)
        ]
        return shown[0] if len(shown) == 1 else "(" + ", ".join(shown) + ")"


def common_dtype(dtypes: Iterable[Any]) -> Any:
    """Return the floating-point dtype that holds all of them, whatever `jax_numpy_dtype_promotion`.

    Under "strict" JAX refuses to find it, since it may be wider than what it is found for.
    """
    with jax.numpy_dtype_promotion("standard"):
        return reduce(jnp.promote_types, dtypes)


def accumulate_dtype(dtype: Any) -> Any:
    """Return the dtype in which to add many squares: at least float32."""
    return common_dtype((dtype, jnp.float32))


def rank_tolerance(num_rows: int, num_columns: int, dtype: Any) -> float:
    """Return what share of the largest singular value a smaller one must exceed to count.

    Rounding moves the singular values of a k x n matrix, k <= n, by about
    (sqrt(k) + sqrt(n)) eps / 2 of the largest, and a QR factorisation by less than k eps.
    NumPy's n eps would call a well-conditioned Jacobian of a large image singular in float32.
    """
    few, many = sorted((num_rows, num_columns))
    return (few + many**0.5) * float(jnp.finfo(dtype).eps)


def example_sum(tree: PyTree, term: Callable[[Array], Array] = lambda x: x) -> Float[Array, " N"]:
    """Sum `term(leaf)` over everything but the batch axis, all leaves together.

    Low-precision leaves are widened before `term` is applied, and the sum is
    returned in the leaves' own dtype, so that bfloat16 stays bfloat16 without
    losing digits on the way.
    """
    leaves = jax.tree.leaves(tree)
    dtype = common_dtype([leaf.dtype for leaf in leaves])
    total = []
    for leaf in leaves:
        wide = term(leaf.astype(accumulate_dtype(leaf.dtype)))
        total.append(jnp.sum(wide, axis=tuple(range(1, wide.ndim))))
    return reduce(jnp.add, [each.astype(accumulate_dtype(dtype)) for each in total]).astype(dtype)


def example_dot(left: PyTree, right: PyTree) -> Float[Array, " N"]:
    """Inner product of two batches of equal structure, example by example."""

    def product(a: Array, b: Array) -> Array:
        wide = accumulate_dtype(common_dtype((a.dtype, b.dtype)))
        return a.astype(wide) * b.astype(wide)

    leaves = [*jax.tree.leaves(left), *jax.tree.leaves(right)]
    dtype = common_dtype([leaf.dtype for leaf in leaves])
    return example_sum(jax.tree.map(product, left, right)).astype(dtype)


def example_norm(tree: PyTree) -> Float[Array, " N"]:
    """Euclidean norm of each example, at least in float32, as `norm` takes it."""
    wide = [leaf.astype(accumulate_dtype(leaf.dtype)) for leaf in jax.tree.leaves(tree)]
    dtype = common_dtype([leaf.dtype for leaf in wide])
    flat = [leaf.astype(dtype).reshape((leaf.shape[0], prod(leaf.shape[1:]))) for leaf in wide]
    return norm(jnp.concatenate(flat, axis=1))


def norm(vectors: Float[Array, "N k"]) -> Float[Array, " N"]:
    """Euclidean norm of each row, with derivative zero at zero.

    Over the largest entry, so that it exists where its square would be too large or too small.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=1, initial=0))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squared = jnp.sum(jnp.square(vectors / scale[:, None]), axis=1)
    zero = squared == 0
    return jnp.where(zero, 0, scale * jnp.sqrt(jnp.where(zero, 1, squared)))


def unit(vectors: Float[Array, "N k"]) -> Float[Array, "N k"]:
    """Each row over its length; a zero row stays zero."""
    length = norm(vectors)
    return vectors / jnp.where(length > 0, length, 1)[:, None]


def error_of_mean(samples: Float[Array, "..."], ddof: int = 1) -> Float[Array, "..."]:
    """Sample deviation along the first axis over the root of the number of samples.

    Over the largest sample, whose square may be too large or too small a number.
    """
    wide = samples.astype(accumulate_dtype(samples.dtype))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(wide), axis=0, keepdims=True))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    deviation = jnp.std(wide / scale, axis=0, ddof=ddof) * scale[0]
    return (deviation / len(samples) ** 0.5).astype(samples.dtype)


def example_squared_norm(tree: PyTree) -> Float[Array, " N"]:
    """Squared Euclidean norm of each example."""
    return example_sum(tree, jnp.square)


def shape_of_argument(who: str, in_shape: Any) -> tuple[int, ...]:
    """The shape of an argument that is given as an int or a sequence of them.

    Raises:
        TypeError: it is an array, or what holds no integers.
        ValueError: one of them is negative.
    """
    sizes = in_shape if isinstance(in_shape, Sequence) else (in_shape,)
    try:
        shape = tuple(index(size) for size in sizes)
    except TypeError:
        shown = getattr(in_shape, "shape", None)
        got = f"{in_shape!r}" if shown is None else f"an array of shape {tuple(shown)}"
        raise TypeError(
            f"{who}: in_shape is the shape of the map's argument, an int or a tuple of them, got "
            f"{got}; pass x.shape."
        ) from None
    if any(size < 0 for size in shape):
        raise ValueError(f"{who}: in_shape must have no negative length, got {shape}.")
    return shape
