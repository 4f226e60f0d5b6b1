"""A chain with its ends joined, which is what its trace is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from ._chain import Chain, Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def guarded_product(left: Any, right: Any) -> Any:
    """`left * right`, and zero where one is zero and the other one is not finite."""
    zero = jnp.zeros((), jnp.result_type(left, right))
    return jnp.where((right == 0) & ~jnp.isfinite(left), zero, left) * jnp.where(
        (left == 0) & ~jnp.isfinite(right), zero, right
    )


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

    def with_identity(self) -> Cycle:
        """Begin with a space more, without a diagonal, in front of the first."""
        (*_, channels), dtype = self.shapes[0], self.layers[0].kernel.dtype
        taps = (1,) * self.dims
        same = Layer(
            jnp.eye(channels, dtype=dtype).reshape((*taps, channels, channels)), (0,) * self.dims
        )
        return replace(
            self,
            shapes=(self.shapes[0], *self.shapes),
            diagonals=((), *self.diagonals),
            layers=(same, *self.layers),
        )

    def times(self, left: Any, right: Any) -> Any:
        """The product entry by entry; what a condition left out stays zero."""
        return guarded_product(left, right) if self.guarded else left * right

    def diagonal(self, space: int, *, backwards: bool = False) -> Float[Array, " B *shape"]:
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
