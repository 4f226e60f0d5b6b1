"""Small convolutions followed by max-pooling on CPU: one matrix product for all of a window.

What costs time around the product of a small convolution are the copies and the loops over six
channels. Here the batch is the last axis, so that every loop runs over it, and the matrix has one
block of rows for each place in a pooling window, so that the maximum is taken over the first axis.
What each step of this gave stands in `benchmarks/README.md`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._layout import ConvLayout, transpose_axes
from ._lowering import Lowering, is_lowered, shifts

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Below, the last axis is too short to be worth the transposed layout.
_LEAST_BATCH = 8


def lowered_conv_max_pool(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    bias: Float[Array, " O"],
    layout: ConvLayout,
    padding: Sequence[tuple[int, int]],
    pool: int,
    activation: Callable[[Array], Array],
    lowering: Lowering,
) -> Float[Array, "..."] | None:
    """`activation(max_pool(conv(xs) + bias))` as one product where that pays, else None.

    Arguments as `conv` has them after its checks, of stride 1, without dilation and groups.

    Raises: ValueError for an unknown lowering.
    """
    if not is_lowered(xs, kernel, layout, (1,) * len(layout.spatial_dims), padding, lowering):
        return None
    if xs.shape[layout.batch_axis] < _LEAST_BATCH or bias.dtype != xs.dtype or _is_split(xs):
        return None
    if any(size < pool for size in _output_sizes(xs, kernel, layout, padding)):
        return None
    return batch_last_conv_max_pool(xs, kernel, bias, layout, padding, pool, activation)


def _is_split(xs: Any) -> bool:
    """Whether the array's type names a mesh axis: merging its axes would need another sharding."""
    sharding = getattr(jax.typeof(xs), "sharding", None)
    return any(axis is not None for axis in getattr(sharding, "spec", ()))


def _output_sizes(xs, kernel, layout: ConvLayout, padding) -> list[int]:
    return [
        xs.shape[layout.inputs.index(letter)]
        + sum(ends)
        - kernel.shape[layout.kernel.index(letter)]
        + 1
        for letter, ends in zip(layout.spatial_dims, padding, strict=True)
    ]


def batch_last_conv_max_pool(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    bias: Float[Array, " O"],
    layout: ConvLayout,
    padding: Sequence[tuple[int, int]],
    pool: int,
    activation: Callable[[Array], Array],
) -> Float[Array, "..."]:
    """`activation(max_pool(conv(xs) + bias))` of a two-dimensional convolution of stride 1.

    The image is cut into cells of one or two pooling windows a side, whose pixels become
    channels. A cell of outputs depends on a few neighbouring cells of inputs; they are stacked
    along the axis that is summed, rows after columns, so that each copy is a long one.
    """
    canonical = layout.canonical
    batch_last = canonical.inputs[1:] + "N"
    ends = dict(zip(layout.spatial_dims, padding, strict=True))
    xs = transpose_axes(xs, layout.inputs, batch_last)
    kernel = transpose_axes(kernel, layout.kernel, canonical.kernel)
    pairs = [ends[letter] for letter in canonical.inputs[1:3]]
    outputs = [xs.shape[axis] + sum(pairs[axis]) - kernel.shape[axis] + 1 for axis in (0, 1)]
    pooled = [size // pool for size in outputs]
    # Larger cells mean fewer copies and more zeros in the matrix: for few channels they pay.
    side = 2 if kernel.shape[2] <= 3 and not any(size % 2 for size in pooled) else 1
    cells = [size // side for size in pooled]
    depths = [-(-(width + pool * side - 1) // (pool * side)) for width in kernel.shape[:2]]
    matrix = _matrix(kernel, pool, side, depths)
    sizes = [(count + depth - 1) * pool * side for count, depth in zip(cells, depths, strict=True)]
    xs = _fitted(xs, pairs, sizes)
    batch, channels = xs.shape[3], xs.shape[2]
    cell = pool * side
    xs = xs.reshape(sizes[0] // cell, cell, sizes[1] // cell, cell, channels, batch)
    xs = xs.transpose(1, 3, 4, 0, 2, 5).reshape(-1, sizes[0] // cell, sizes[1] // cell, batch)
    xs = jnp.stack([xs[:, :, shift : shift + cells[1]] for shift in range(depths[1])])
    xs = jnp.stack([xs[:, :, shift : shift + cells[0]] for shift in range(depths[0])])
    # The free axes are not merged: a batch that is split over devices stays where it is.
    ys = jnp.tensordot(matrix, xs.reshape(matrix.shape[1], *xs.shape[-3:]), 1)
    features = kernel.shape[3]
    ys = largest(ys.reshape(pool * pool, side * side, features, *ys.shape[1:]))
    ys = activation(ys + bias.reshape(1, features, 1, 1, 1))
    ys = ys.reshape(side, side, features, *cells, batch).transpose(3, 0, 4, 1, 2, 5)
    ys = ys.reshape(*pooled, features, batch)
    return transpose_axes(ys, batch_last, layout.outputs)


def _fitted(xs: Array, pairs: Sequence[tuple[int, int]], sizes: Sequence[int]) -> Array:
    """Pad the first two axes at their low ends, and pad or cut their high ends to the sizes."""
    xs = xs[tuple(slice(max(0, size - low)) for (low, _), size in zip(pairs, sizes, strict=True))]
    missing = [
        (low, size - low - have)
        for (low, _), size, have in zip(pairs, sizes, xs.shape[:2], strict=True)
    ]
    return jnp.pad(xs, (*missing, (0, 0), (0, 0))) if any(map(any, missing)) else xs


def _matrix(kernel: Array, pool: int, side: int, depths: Sequence[int]) -> Array:
    """Return `[pool^2 side^2 O, depth^2 cell^2 I]`, the kernel in one shifted copy an output."""
    cell = pool * side
    places = []
    for width, depth in zip(kernel.shape[:2], depths, strict=True):
        place = shifts(width, cell, kernel.dtype)
        place = np.pad(place, ((0, 0), (0, depth * cell - place.shape[1]), (0, 0)))
        places.append(place.reshape(width, depth, cell, side, pool))
    # i, j: the kernel's rows and columns; u, v and w, x: depths and places within an input cell;
    # r, p and b, q: windows of an output cell and places within a window.
    columns = jnp.einsum("ijco,jwxbq->iwxcbqo", kernel, places[1])
    matrix = jnp.einsum("iwxcbqo,iuvrp->pqrbouwvxc", columns, places[0])
    return matrix.reshape(cell * cell * kernel.shape[3], -1)


@jax.custom_jvp
def largest(ys: Float[Array, " K *rest"]) -> Float[Array, " *rest"]:
    """The maximum over the first axis; equal maxima share the gradient, as with `jnp.max`.

    The derivative is a product with the shares: `jnp.max` has the same, in more passes.
    """
    return functools.reduce(jnp.maximum, list(ys))


@largest.defjvp
def _largest_jvp(primals, tangents):
    (ys,), (tangent,) = primals, tangents
    found = largest(ys)
    ties = (ys == found[None]).astype(ys.dtype)
    shares = ties * (1 / functools.reduce(operator.add, list(ties)))[None]
    return found, functools.reduce(operator.add, list(shares * tangent))
