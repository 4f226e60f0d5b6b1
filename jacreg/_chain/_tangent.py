"""A value of a linear program, as a sum of chains."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ._chain import Chain, Unreadable

# Sums multiply: a residual network of many blocks has more chains than products.
_MOST_CHAINS = 8


@dataclass(frozen=True)
class Tangent:
    """A value that is linear in the input.

    Attributes:
        axes: the role of each axis: 0 the batch, 1 to d spatial, d + 1 the channels.
        chains: whose sum it is.
    """

    axes: tuple[int, ...]
    chains: tuple[Chain, ...]

    @property
    def channel_axis(self) -> int:
        """The axis of the channels."""
        return self.axes.index(len(self.axes) - 1)

    def shape(self, like: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape, with as many examples as an array of that layout has."""
        return self._shape(self.chains[0], like)

    def has_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether all chains have a shape, for any number of examples."""
        return all(self._shape(chain, shape) == shape for chain in self.chains)

    def plus(self, other: Tangent) -> Tangent:
        """The sum of both, in as few chains as it takes."""
        if self.axes != other.axes:
            raise Unreadable("a sum of two layouts")
        chains = list(self.chains)
        for chain in other.chains:
            merged = [(i, both) for i, own in enumerate(chains) if (both := own.merged(chain))]
            if merged:
                chains[merged[0][0]] = merged[0][1]
            else:
                chains.append(chain)
        if len(chains) > _MOST_CHAINS:
            raise Unreadable("too many chains")
        return replace(self, chains=tuple(chains))

    def _shape(self, chain: Chain, like: tuple[int, ...]) -> tuple[int, ...]:
        if len(like) != len(self.axes) or len(chain.shape) != len(self.axes) - 1:
            raise Unreadable("another number of axes")
        canonical = (like[self.axes.index(0)], *chain.shape)
        return tuple(canonical[role] for role in self.axes)
