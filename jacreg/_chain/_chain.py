"""A Jacobian as a sum of chains: linear layers with diagonal matrices between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Entries held at once, as for products with basis vectors.
MOST_ENTRIES = 1 << 24


class Unreadable(Exception):
    """This is no chain, or none that is evaluated here: the general way serves."""


@dataclass(frozen=True)
class Layer:
    """A convolution of stride 1, or (without spatial axes) a matrix, the same for all examples.

    Attributes:
        kernel: `[*taps, in, out]`.
        low: padding before each spatial axis: output q reads inputs q + t - low.
        takes: a part of the channels and nothing else: how many it leaves out before and behind.
    """

    kernel: Float[Array, "*taps n m"]
    low: tuple[int, ...]
    takes: tuple[int, int] | None = None


@dataclass(frozen=True)
class Chain:
    """The map D_k W_k ... D_1 W_1 D_0, times a number.

    Attributes:
        shapes: of the spaces between layers, `(*spatial, channels)`, k + 1 of them.
        diagonals: factors `[N, *shape]` of each, in the order in which they are applied, none
            for the identity; k + 1 of them.
        layers: k of them.
        weight: a number.
        doubtful: the first space with a factor that is no condition, so that it may be infinite.
        guarded: a condition was put on what comes from a doubtful space before.
        beside: zero channels before and behind those of the last space, by a concatenation. They
            cost nothing: what comes next leaves them out.
    """

    shapes: tuple[tuple[int, ...], ...]
    diagonals: tuple[tuple[Any, ...], ...]
    layers: tuple[Layer, ...] = ()
    weight: Any = 1.0
    doubtful: int | None = None
    guarded: bool = False
    beside: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what leaves the chain."""
        *spatial, channels = self.shapes[-1]
        return (*spatial, channels + sum(self.beside))

    def scaled(self, diagonal: Any) -> Chain:
        """Multiply what leaves the chain entry by entry; a scalar is a weight."""
        if jnp.ndim(diagonal) == 0:
            return replace(self, weight=self.weight * diagonal)
        diagonal = self._between(diagonal, -1)
        last, here = (*self.diagonals[-1], diagonal), len(self.layers)
        doubtful = here if self.doubtful is None else self.doubtful
        return replace(self, diagonals=(*self.diagonals[:-1], last), doubtful=doubtful)

    def conditioned(self, mask: Any) -> Chain:
        """Multiply by a mask `[N, *shape]` of zeros and ones: a zero holds whatever came before."""
        mask = self._between(mask, -1)
        *before, last = self.diagonals
        weight = self.weight
        if isinstance(weight, jax.Array):
            # It may be infinite where the mask is zero.
            last, weight = (*last, jnp.broadcast_to(weight, (1, *self.shapes[-1]))), 1.0
        if last:
            factor = reduce(mul, last)
            last = (jnp.where(mask != 0, factor, jnp.zeros((), factor.dtype)),)
        else:
            last = (mask,)
        guarded = self.doubtful is not None and self.doubtful < len(self.layers)
        return replace(
            self, diagonals=(*before, last), weight=weight, guarded=self.guarded or guarded
        )

    def through(self, layer: Layer, shape: tuple[int, ...]) -> Chain:
        """Append a layer."""
        layer = replace(layer, kernel=self._between(layer.kernel, -2))
        if len(self.layers) == 1 and (left_out := self.layers[0].takes):
            # A part of the channels, then a layer: one layer that does not see the others.
            own = tuple(_padded(each, -1, left_out) for each in self.diagonals[1])
            return replace(
                self,
                shapes=(self.shapes[0], shape),
                diagonals=(own, ()),
                layers=(Layer(_padded(layer.kernel, -2, left_out), layer.low),),
                doubtful=None if self.doubtful is None else 0,
                beside=(0, 0),
            )
        return replace(
            self,
            shapes=(*self.shapes, shape),
            diagonals=(*self.diagonals, ()),
            layers=(*self.layers, layer),
            beside=(0, 0),
        )

    def embedded(self, before: int, behind: int) -> Chain:
        """Put channels of zeros beside those that leave the chain."""
        low, high = self.beside
        return replace(self, beside=(low + before, high + behind))

    def restricted(self, start: int, stop: int, dtype: Any) -> Chain | None:
        """Keep the channels `start:stop`; None where the chain reaches none of them."""
        low, (*spatial, channels) = self.beside[0], self.shapes[-1]
        first, last = max(start - low, 0), min(stop - low, channels)
        if first >= last:
            return None
        shape = (*spatial, last - first)
        beside = (max(low - start, 0), max(stop - low - channels, 0))
        if (first, last) == (0, channels):
            return replace(self, beside=beside)

        def cut(array: Any) -> Any:
            return lax.slice_in_dim(array, first, last, axis=array.ndim - 1)

        last_diagonal = tuple(cut(each) for each in self.diagonals[-1])
        if self.layers:
            *layers, layer = self.layers
            takes = layer.takes and (layer.takes[0] + first, layer.takes[1] + channels - last)
            layer = Layer(cut(layer.kernel), layer.low, takes)
            shapes, diagonals = self.shapes[:-1], self.diagonals[:-1]
        else:
            # The factors go behind the layer: those of what is left out may be infinite.
            layers, dims = [], len(spatial)
            kernel = cut(jnp.eye(channels, dtype=dtype))
            kernel = kernel.reshape((1,) * dims + kernel.shape)
            layer = Layer(kernel, (0,) * dims, (first, channels - last))
            shapes, diagonals = self.shapes, ((),)
        return replace(
            self,
            shapes=(*shapes, shape),
            diagonals=(*diagonals, last_diagonal),
            layers=(*layers, layer),
            doubtful=self.doubtful if self.layers or self.doubtful is None else 1,
            beside=beside,
        )

    def settled(self) -> Chain | None:
        """The same chain with zero channels written out, None where its trace is zero for that.

        A part of the channels in its own place has a diagonal for a Jacobian; in another place
        nothing of it is on the diagonal.
        """
        if len(self.layers) == 1 and (left_out := self.layers[0].takes):
            if left_out != self.beside:
                return None
            own = tuple(_padded(each, -1, left_out) for each in self.diagonals[1])
            if not own:
                own = (
                    _padded(
                        jnp.ones((1, *self.shapes[1]), self.layers[0].kernel.dtype), -1, left_out
                    ),
                )
            return replace(self, shapes=self.shapes[:1], diagonals=(own,), layers=(), beside=(0, 0))
        if self.beside == (0, 0):
            return self
        layer = self.layers[-1]
        return replace(
            self,
            shapes=(*self.shapes[:-1], self.shape),
            diagonals=(
                *self.diagonals[:-1],
                tuple(_padded(each, -1, self.beside) for each in self.diagonals[-1]),
            ),
            layers=(*self.layers[:-1], Layer(_padded(layer.kernel, -1, self.beside), layer.low)),
            beside=(0, 0),
        )

    def _between(self, array: Any, axis: int) -> Any:
        """Without the channels of zeros."""
        if self.beside == (0, 0):
            return array
        low, channels = self.beside[0], self.shapes[-1][-1]
        return lax.slice_in_dim(array, low, low + channels, axis=axis)

    def merged(self, other: Chain) -> Chain | None:
        """The sum of two chains where that is one: they differ in one diagonal at most."""
        if (
            len(self.layers) != len(other.layers)
            or self.beside != other.beside
            or any(a is not b for a, b in zip(self.layers, other.layers, strict=True))
        ):
            return None
        pairs = list(zip(self.diagonals, other.diagonals, strict=True))
        differing = [i for i, (own, others) in enumerate(pairs) if not _identical(own, others)]
        doubts = [each.doubtful for each in (self, other) if each.doubtful is not None]
        doubtful, guarded = min(doubts, default=None), self.guarded or other.guarded
        if not differing:
            weight = self.weight + other.weight
            return replace(self, weight=weight, doubtful=doubtful, guarded=guarded)
        if len(differing) > 1:
            return None
        (place,) = differing
        own, others = pairs[place]
        shared = next(
            (i for i, (a, b) in enumerate(zip(own, others, strict=False)) if a is not b),
            min(len(own), len(others)),
        )
        terms = [
            (own[shared:], self.weight),
            (others[shared:], other.weight),
        ]
        # A number first, so that a sum reads the same whichever program wrote it.
        terms.sort(key=lambda term: len(term[0]))
        total = sum(weight * reduce(mul, factors, 1.0) for factors, weight in terms)
        changed = (*own[:shared], total)
        diagonals = (*self.diagonals[:place], changed, *self.diagonals[place + 1 :])
        return replace(self, diagonals=diagonals, weight=1.0, doubtful=doubtful, guarded=guarded)


def _padded(array: Any, axis: int, beside: tuple[int, int]) -> Any:
    config = [(0, 0, 0)] * array.ndim
    config[axis] = (*beside, 0)
    return lax.pad(array, jnp.zeros((), array.dtype), config)


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))
