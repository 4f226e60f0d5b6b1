"""A Jacobian as a sum of chains: linear layers with diagonal matrices between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

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
    """

    kernel: Float[Array, "*taps n m"]
    low: tuple[int, ...]


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
    """

    shapes: tuple[tuple[int, ...], ...]
    diagonals: tuple[tuple[Any, ...], ...]
    layers: tuple[Layer, ...] = ()
    weight: Any = 1.0
    doubtful: int | None = None
    guarded: bool = False

    def scaled(self, diagonal: Any) -> Chain:
        """Multiply what leaves the chain entry by entry; a scalar is a weight."""
        if jnp.ndim(diagonal) == 0:
            return replace(self, weight=self.weight * diagonal)
        last, here = (*self.diagonals[-1], diagonal), len(self.layers)
        doubtful = here if self.doubtful is None else self.doubtful
        return replace(self, diagonals=(*self.diagonals[:-1], last), doubtful=doubtful)

    def conditioned(self, mask: Any) -> Chain:
        """Multiply by a mask `[N, *shape]` of zeros and ones: a zero holds whatever came before."""
        *before, last = self.diagonals
        if last:
            factor = reduce(mul, last)
            last = (jnp.where(mask != 0, factor, jnp.zeros((), factor.dtype)),)
        else:
            last = (mask,)
        guarded = self.doubtful is not None and self.doubtful < len(self.layers)
        return replace(self, diagonals=(*before, last), guarded=self.guarded or guarded)

    def through(self, layer: Layer, shape: tuple[int, ...]) -> Chain:
        """Append a layer."""
        return replace(
            self,
            shapes=(*self.shapes, shape),
            diagonals=(*self.diagonals, ()),
            layers=(*self.layers, layer),
        )

    def merged(self, other: Chain) -> Chain | None:
        """The sum of two chains where that is one: they differ in one diagonal at most."""
        if len(self.layers) != len(other.layers) or any(
            a is not b for a, b in zip(self.layers, other.layers, strict=True)
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


def guarded_product(left: Any, right: Any) -> Any:
    """`left * right`, and zero where one is zero and the other one is not finite."""
    zero = jnp.zeros((), jnp.result_type(left, right))
    return jnp.where((right == 0) & ~jnp.isfinite(left), zero, left) * jnp.where(
        (left == 0) & ~jnp.isfinite(right), zero, right
    )


def _identical(left: tuple[Any, ...], right: tuple[Any, ...]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


@dataclass(frozen=True)
class Cycle:
    """What the trace of a chain is: its ends joined, so that it may be cut anywhere.

    Attributes:
        shapes, diagonals: of the k spaces, in order; a diagonal by its factors.
        layers: layer i leads from space i to space i + 1, the last one back to the first.
        guarded: as the chain's.
    """

    shapes: tuple[tuple[int, ...], ...]
    diagonals: tuple[tuple[Any, ...], ...]
    layers: tuple[Layer, ...]
    guarded: bool = False

    @classmethod
    def of(cls, chain: Chain) -> Cycle:
        """Join the ends of a chain that has a layer."""
        first = (*chain.diagonals[-1], *chain.diagonals[0])
        return cls(chain.shapes[:-1], (first, *chain.diagonals[1:-1]), chain.layers, chain.guarded)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.shapes[0]) - 1

    @property
    def modulated(self) -> list[int]:
        """Spaces with a diagonal."""
        return [i for i, diagonal in enumerate(self.diagonals) if diagonal]

    def rotated(self, start: int) -> Cycle:
        """Count the spaces from another one."""

        def turn(items: tuple[Any, ...]) -> tuple[Any, ...]:
            return items[start:] + items[:start]

        return Cycle(turn(self.shapes), turn(self.diagonals), turn(self.layers), self.guarded)

    def times(self, left: Any, right: Any) -> Any:
        """The product entry by entry; what a condition left out stays zero."""
        return guarded_product(left, right) if self.guarded else left * right

    def diagonal(self, space: int, *, backwards: bool = False) -> Float[Array, "B *shape"]:
        """The diagonal `[N or 1, *shape]` of a space, ones where it is the identity.

        Args:
            space: which.
            backwards: multiply the factors in the other order. Where the second half of the
                program is the first one transposed, as in a Hessian, both then read the same
                and are evaluated once.
        """
        factors = self.diagonals[space]
        if factors:
            return reduce(self.times, factors[::-1] if backwards else factors)
        return jnp.ones((1, *self.shapes[space]), self.layers[space].kernel.dtype)
