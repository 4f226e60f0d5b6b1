"""A Jacobian as a sum of chains: linear layers with diagonal matrices between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
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
        reads: where the padding is not of zeros, the input entry that each entry of the padded
            input is along each spatial axis, -1 for none: output q reads entries q + t of these.
    """

    kernel: Float[Array, "*taps n m"]
    low: tuple[int, ...]
    takes: tuple[int, int] | None = None
    reads: tuple[np.ndarray, ...] | None = None


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
        moved: what was done to the spatial axes of the last space: for each of them the entry that
            each entry is now, -1 for zero; None for nothing.
    """

    shapes: tuple[tuple[int, ...], ...]
    diagonals: tuple[tuple[Any, ...], ...]
    layers: tuple[Layer, ...] = ()
    weight: Any = 1.0
    doubtful: int | None = None
    guarded: bool = False
    beside: tuple[int, int] = (0, 0)
    moved: tuple[np.ndarray, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what leaves the chain."""
        *spatial, channels = self.shapes[-1]
        if self.moved is not None:
            spatial = [len(places) for places in self.moved]
        return (*spatial, channels + sum(self.beside))

    def placed(self, axis: int, places: np.ndarray) -> Chain:
        """Entry i along a spatial axis is now the one at `places[i]`, zero where that is -1."""
        moved = self.moved or tuple(np.arange(size) for size in self.shapes[-1][:-1])
        before = np.append(moved[axis], -1)
        changed = (*moved[:axis], before[places], *moved[axis + 1 :])
        same = all(
            np.array_equal(each, np.arange(size))
            for each, size in zip(changed, self.shapes[-1], strict=False)
        )
        return replace(self, moved=None if same else changed)

    def scaled(self, diagonal: Any) -> Chain:
        """Multiply what leaves the chain entry by entry; a scalar is a weight."""
        if jnp.ndim(diagonal) == 0:
            return replace(self, weight=self.weight * diagonal)
        self._check_unmoved()
        diagonal = self._between(diagonal, -1)
        last, here = (*self.diagonals[-1], diagonal), len(self.layers)
        doubtful = here if self.doubtful is None else self.doubtful
        return replace(self, diagonals=(*self.diagonals[:-1], last), doubtful=doubtful)

    def conditioned(self, mask: Any) -> Chain:
        """Multiply by a mask `[N, *shape]` of zeros and ones: a zero holds whatever came before."""
        self._check_unmoved()
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
        layer = self._padded_by_moves(layer, shape)
        if len(self.layers) == 1 and (left_out := self.layers[0].takes):
            # A part of the channels, then a layer: one layer that does not see the others.
            own = tuple(_padded(each, -1, left_out) for each in self.diagonals[1])
            return replace(
                self,
                shapes=(self.shapes[0], shape),
                diagonals=(own, ()),
                layers=(replace(layer, kernel=_padded(layer.kernel, -2, left_out)),),
                doubtful=None if self.doubtful is None else 0,
                beside=(0, 0),
                moved=None,
            )
        return replace(
            self,
            shapes=(*self.shapes, shape),
            diagonals=(*self.diagonals, ()),
            layers=(*self.layers, layer),
            beside=(0, 0),
            moved=None,
        )

    def _padded_by_moves(self, layer: Layer, shape: tuple[int, ...]) -> Layer:
        """A layer with what was done to the spatial axes before it for its padding."""
        if self.moved is None:
            return layer
        low, reads = [], []
        for axis, (places, size) in enumerate(zip(self.moved, self.shapes[-1], strict=False)):
            # The padded input as far as the outputs read it.
            count, before = shape[axis] + layer.kernel.shape[axis] - 1, layer.low[axis]
            padded = np.concatenate([np.full(max(before, 0), -1), places[max(-before, 0) :]])
            padded = np.concatenate([padded, np.full(max(count - len(padded), 0), -1)])[:count]
            reads.append(padded)
            low.append(_window_low(padded, size))
        if None in low:
            return replace(layer, reads=tuple(reads))
        # A part of the input, or zeros around it: padding as a convolution has it.
        return replace(layer, low=tuple(low))

    def _check_unmoved(self) -> None:
        if self.moved is not None:
            raise Unreadable("a factor between a padding and its layer")

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
            layer = replace(layer, kernel=cut(layer.kernel), takes=takes)
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
        if self.moved is not None:
            raise Unreadable("the output has its entries in other places")
        if len(self.layers) == 1 and (left_out := self.layers[0].takes):
            if left_out != self.beside:
                return None
            ones = jnp.ones((1, *self.shapes[1]), self.layers[0].kernel.dtype)
            own = tuple(_padded(each, -1, left_out) for each in self.diagonals[1] or (ones,))
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
            layers=(
                *self.layers[:-1],
                replace(layer, kernel=_padded(layer.kernel, -1, self.beside), takes=None),
            ),
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
        if self.moved is not None or other.moved is not None:
            moved = _union(self.moved, other.moved)
            same = all(_identical(own, others) for own, others in pairs)
            if moved is None or not same or self.weight is not other.weight:
                return None
            return replace(self, moved=moved)
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


def _window_low(padded: np.ndarray, size: int) -> Any:
    """How far before an axis a window begins, zeros outside of it; None where it is no window."""
    real = np.flatnonzero(padded >= 0)
    low = int(real[0] - padded[real[0]]) if real.size else len(padded)
    line = np.arange(len(padded)) - low
    inside = np.where((line >= 0) & (line < size), line, -1)
    return low if np.array_equal(padded, inside) else None


def _union(
    left: tuple[np.ndarray, ...] | None, right: tuple[np.ndarray, ...] | None
) -> tuple[np.ndarray, ...] | None:
    """Both in one where they differ along one axis, and of each place there one is zero."""
    if left is None or right is None:
        return None
    differing = [
        axis for axis, (a, b) in enumerate(zip(left, right, strict=True))
        if not np.array_equal(a, b)
    ]  # fmt: skip
    if len(differing) != 1:
        return None
    (axis,) = differing
    a, b = left[axis], right[axis]
    if len(a) != len(b) or ((a >= 0) & (b >= 0)).any():
        return None
    return (*left[:axis], np.maximum(a, b), *left[axis + 1 :])


def _padded(array: Any, axis: int, beside: tuple[int, int]) -> Any:
    config = [(0, 0, 0)] * array.ndim
    config[axis] = (*beside, 0)
    return lax.pad(array, jnp.zeros((), array.dtype), config)


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))
