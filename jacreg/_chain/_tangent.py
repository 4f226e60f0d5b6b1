"""A value of a linear program, as a sum of chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from ._chain import Chain, Unreadable

# Sums multiply: a residual network of many blocks has more chains than products.
_MOST_CHAINS = 8
# The role of an axis of one entry. Which one it is (one example, one row, one channel, or the
# batch that a convolution of one example has under vmap) does not matter to the numbers and is
# left open until an operation says it.
UNIT = -1


@dataclass(frozen=True)
class Tangent:
    """A value that is linear in the input.

    Attributes:
        axes: the role of each axis: 0 the batch, 1 to d spatial, d + 1 the channels, or UNIT.
            What no axis has the role of has one entry.
        chains: whose sum it is.
    """

    axes: tuple[int, ...]
    chains: tuple[Chain, ...]

    @property
    def channels(self) -> int:
        """The role of the channels."""
        return len(self.chains[0].shape)

    def may_be(self, axis: int, role: int) -> bool:
        """Whether an axis has a role, or one entry and so has the role."""
        own = self.axes[axis]
        return own == role or (own == UNIT and role not in self.axes)

    def has_roles(self, roles: tuple[int, ...]) -> bool:
        """Whether its axes are or may be those of a layout."""
        return len(roles) == len(self.axes) and all(map(self.may_be, range(len(roles)), roles))

    def shape(self, like: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape, with as many examples as an array of that layout has."""
        return self._shape(self.chains[0], like)

    def has_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether all chains have a shape, for any number of examples."""
        return all(self._shape(chain, shape) == shape for chain in self.chains)

    def canonical(self, array: Any) -> Any:
        """An array of its shape with the batch first, spatial axes next and channels last."""
        roles = [role for role in self.axes if role != UNIT]
        array = jnp.squeeze(array, [axis for axis, role in enumerate(self.axes) if role == UNIT])
        array = jnp.transpose(array, sorted(range(len(roles)), key=roles.__getitem__))
        return jnp.expand_dims(array, [r for r in range(self.channels + 1) if r not in roles])

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
        if len(like) != len(self.axes):
            raise Unreadable("another number of axes")
        sizes = {role: size for role, size in enumerate(chain.shape, start=1)} | {UNIT: 1}
        return tuple(
            size if role == 0 else sizes[role] for role, size in zip(self.axes, like, strict=True)
        )


def open_units(roles: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Roles of axes, UNIT for those of one entry."""
    return tuple(UNIT if n == 1 else role for role, n in zip(roles, shape, strict=True))


def canonical_shape(roles: Sequence[int], shape: Sequence[int], dims: int) -> tuple[int, ...]:
    """`(*spatial, channels)` of an array's shape in a layout with so many spatial axes."""
    sizes = {role: size for role, size in zip(roles, shape, strict=True) if role != UNIT}
    return tuple(sizes.get(role, 1) for role in range(1, dims + 2))
