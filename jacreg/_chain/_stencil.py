"""Layers as seen from one end: what a position meets at which offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp

from ._chain import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@dataclass(frozen=True)
class Stencil:
    """Entries between a near position q and the far ones q + start + index.

    Attributes:
        start: the smallest offset along each spatial axis.
        weights: `[*offsets, far, near]`.
    """

    start: tuple[int, ...]
    weights: Float[Array, "*offsets far near"]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of offsets along each axis."""
        return self.weights.shape[:-2]


def from_output(layer: Layer) -> Stencil:
    """The inputs that an output reads."""
    return Stencil(tuple(-low for low in layer.low), layer.kernel)


def from_input(layer: Layer) -> Stencil:
    """The outputs that read an input."""
    dims = len(layer.low)
    taps = layer.kernel.shape[:dims]
    start = tuple(low - count + 1 for low, count in zip(layer.low, taps, strict=True))
    return Stencil(start, jnp.swapaxes(jnp.flip(layer.kernel, tuple(range(dims))), -1, -2))


class Arc(NamedTuple):
    """The way from a near space to a far one, by two layers through a space between."""

    first: Stencil
    second: Stencil

    @property
    def start(self) -> tuple[int, ...]:
        """The smallest offset of all."""
        return tuple(a + b for a, b in zip(self.first.start, self.second.start, strict=True))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of offsets of all along each axis."""
        return tuple(a + b - 1 for a, b in zip(self.first.counts, self.second.counts, strict=True))


def common(arcs: Sequence[Arc]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last offset along each axis that both arcs have; none where last < first."""
    starts = [arc.start for arc in arcs]
    ends = [tuple(s + n - 1 for s, n in zip(arc.start, arc.counts, strict=True)) for arc in arcs]
    return (
        tuple(max(each) for each in zip(*starts, strict=True)),
        tuple(min(each) for each in zip(*ends, strict=True)),
    )
