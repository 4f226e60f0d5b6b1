"""Traces of cycles of convolutions."""

from __future__ import annotations

from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._chain import Unreadable
from ._cycle import Cycle
from ._mapped import MOST_REGIONS, mapped_trace, valid
from ._stencil import Arc, common, from_input, from_output
from ._triple import triple

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def local_trace(cycle: Cycle, num_examples: int) -> Float[Array, " B"]:
    """Trace of a cycle with spatial axes, `[N or 1]`.

    Raises:
        Unreadable: more diagonals than are carried here.
    """
    count, modulated = len(cycle.layers), cycle.modulated
    if any(layer.reads is not None for layer in cycle.layers):
        return mapped_trace(cycle)
    if count == 1:
        return _center(cycle)
    if count == 2:
        return _bilinear(cycle)
    if count == 3 and len(modulated) <= 2:
        # Two diagonals in front, the space without one behind them.
        free = next(i for i in range(3) if i not in modulated)
        return _bilinear(cycle.rotated((free + 1) % 3))
    if count == 3:
        if cycle.guarded:
            # The far side of the layer that does nothing meets zeros that no mask knows of.
            raise Unreadable("three diagonals around three convolutions, one behind a condition")
        most_taps = max(prod(layer.kernel.shape[:-2]) for layer in cycle.layers)
        if prod(cycle.shapes[0][:-1]) <= most_taps:
            raise Unreadable("an image no larger than a kernel")
        # A layer that does nothing, behind the space with the fewest channels.
        widths = [shape[-1] for shape in cycle.shapes]
        return triple(cycle.rotated(widths.index(min(widths))).with_identity(), num_examples)
    opposite = len(modulated) < 2 or modulated == [modulated[0], modulated[0] + 2]
    if count == 4 and opposite:
        return _bilinear(cycle.rotated(modulated[0] if modulated else 0))
    if count == 4 and len(modulated) <= 3:
        free = next(i for i in range(4) if i not in modulated)
        return triple(cycle.rotated(free), num_examples)
    raise Unreadable("too many diagonals between convolutions")


def _center(cycle: Cycle) -> Float[Array, " B"]:
    (layer,) = cycle.layers
    inside = all(0 <= low < n for low, n in zip(layer.low, layer.kernel.shape, strict=False))
    here = layer.kernel[layer.low] if inside else jnp.zeros_like(layer.kernel[(0,) * cycle.dims])
    total = jnp.sum(cycle.diagonal(0), axis=tuple(range(1, cycle.dims + 1)))
    return total @ jnp.diagonal(here)


def _bilinear(cycle: Cycle) -> Float[Array, " B"]:
    """D_b^T (K * L) D_a for the first space a and b, the next with a diagonal.

    K leads from b to a on one side of the cycle and L on the other. Both are small stencils and
    the same for all examples, so that their product is one convolution of D_a. Where a stencil
    passes through a space that ends nearby, it is another one: a kernel for each region.
    """
    count = len(cycle.layers)
    near = 2 if count == 4 else 1
    arcs = (_back(cycle, near), _forth(cycle, near))
    spread = cycle.diagonal(0)
    sizes, (low, high) = cycle.shapes[near][:-1], common(arcs)
    counts = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
    if min(counts) < 1:
        return jnp.zeros((1,), spread.dtype)
    axes = [_regions(arcs, axis, size) for axis, size in enumerate(sizes)]
    regions = list(product(*axes))
    if len(regions) > MOST_REGIONS:
        raise Unreadable("too many regions")
    kernels: Any = 1.0
    for number, arc in enumerate(arcs):
        masks = np.stack([_outer([part[2][number] for part in region]) for region in regions])
        kernels = kernels * _cropped(arc.joined(masks), arc.start, low, counts)
    spread = _padded(spread, cycle.shapes[0][:-1], sizes, low, high)
    other, total = cycle.diagonal(near), jnp.zeros((1,), spread.dtype)
    for number, region in enumerate(regions):
        here = tuple(slice(first, last) for first, last, _ in region)
        seen = tuple(
            slice(first, last + n - 1) for (first, last, _), n in zip(region, counts, strict=True)
        )
        kernel = kernels[number if kernels.shape[0] > 1 else 0]
        found = cycle.times(
            valid(spread[(slice(None), *seen)], kernel), other[(slice(None), *here)]
        )
        total = total + jnp.sum(found, axis=tuple(range(1, found.ndim)))
    return total


def _back(cycle: Cycle, near: int) -> Arc:
    """Against the arrows from a space to the first one."""
    first = from_output(cycle.layers[near - 1])
    if near == 1:
        return Arc(first)
    return Arc(first, from_output(cycle.layers[0]), cycle.shapes[1][:-1])


def _forth(cycle: Cycle, near: int) -> Arc:
    """Along the arrows from a space to the first one, where the cycle ends."""
    first = from_input(cycle.layers[near])
    if near == len(cycle.layers) - 1:
        return Arc(first)
    return Arc(first, from_input(cycle.layers[near + 1]), cycle.shapes[near + 1][:-1])


def _regions(arcs: tuple[Arc, ...], axis: int, size: int) -> list[tuple[int, int, Any]]:
    """Runs of positions `first, last` along an axis with the same masks, one for each arc."""
    masks = [arc.inside(axis, size) for arc in arcs]
    together = np.concatenate(masks, axis=1)
    starts = [0, *(1 + np.flatnonzero((together[1:] != together[:-1]).any(1))), size]
    return [(int(a), int(b), [mask[a] for mask in masks]) for a, b in pairwise(starts)]


def _outer(masks: list[Any]) -> Any:
    total = np.ones((), bool)
    for mask in masks:
        total = total[..., None] & mask
    return total


def _cropped(stencils: Any, start: Any, low: Any, counts: Any) -> Any:
    window = tuple(slice(a - s, a - s + n) for s, a, n in zip(start, low, counts, strict=True))
    return stencils[(slice(None), *window)]


def _padded(image: Any, own: Any, sizes: Any, low: Any, high: Any) -> Any:
    """So that position q of the near space sees entries q to q + high - low."""
    config = [
        (-a, (size - 1 + b) - (n - 1), 0)
        for n, size, a, b in zip(own, sizes, low, high, strict=True)
    ]
    return jax.lax.pad(image, jnp.zeros((), image.dtype), [(0, 0, 0), *config, (0, 0, 0)])
