"""How each parameter enters the kernel: as its Jacobian, or as factors of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from ._read import Reading
from ._use import Sizes


class Group(NamedTuple):
    """Uses of one weight, their positions one after the other.

    Attributes:
        uses: which, numbers into `Reading.uses`.
        sizes: of all together.
        factored: whether inputs and cotangents are kept apart; the entry of two examples is then
            the sum over pairs of positions of the product of their two inner products.
    """

    uses: tuple[int, ...]
    sizes: Sizes
    factored: bool

    def entries(self, outputs: int) -> int:
        """Numbers an example that are held for the contraction."""
        blocks, positions, inputs, width = self.sizes
        if self.factored:
            return blocks * positions * (inputs + outputs * width)
        return outputs * blocks * inputs * width

    def passing(self, outputs: int) -> int:
        """Numbers an example that are needed on the way to those."""
        blocks, positions, inputs, width = self.sizes
        return 0 if self.factored else blocks * positions * (inputs + outputs * width)

    def flops(self, outputs: int, others: int, traced: bool) -> float:
        """Operations of one pair of examples, with a share of what an example takes."""
        return _flops(self.sizes, outputs, others, traced)[self.factored]


class Plan(NamedTuple):
    """What is held of each example.

    Attributes:
        reading: the program.
        outputs: M.
        groups: the weights with structure.
        sizes: entries of each general leaf.
        largest: entries of the largest intermediate array of one example.
    """

    reading: Reading
    outputs: int
    groups: tuple[Group, ...]
    sizes: tuple[int, ...]
    largest: int

    @property
    def held(self) -> int:
        """Numbers an example that are held for the contraction."""
        general = self.outputs * sum(self.sizes)
        return general + sum(group.entries(self.outputs) for group in self.groups)

    @property
    def entries(self) -> int:
        """Numbers an example in memory at once: those and what leads to them."""
        passing = [group.passing(self.outputs) for group in self.groups]
        return self.held + max([self.outputs * self.largest, *passing])

    def flops(self, others: int, traced: bool) -> float:
        """Operations of one pair of examples."""
        square = self.outputs if traced else self.outputs**2
        general = 2 * square * sum(self.sizes)
        return general + sum(g.flops(self.outputs, others, traced) for g in self.groups)


def make_plan(
    reading: Reading, leaves: Sequence[Any], outputs: int, others: int, traced: bool
) -> Plan:
    """Plan for kernels of each example with `others` more, whichever way is fewer operations."""
    by_key: dict[Any, list[int]] = {}
    for number, use in enumerate(reading.uses):
        by_key.setdefault(use.key, []).append(number)
    groups = []
    for numbers in by_key.values():
        each = [reading.uses[number].sizes() for number in numbers]
        sizes = each[0]._replace(positions=sum(s.positions for s in each))
        dense, factored = _flops(sizes, outputs, others, traced)
        groups.append(Group(tuple(numbers), sizes, factored <= dense))
    general = tuple(leaves[leaf].size for leaf in reading.general)
    return Plan(reading, outputs, tuple(groups), general, _largest(reading.closed.jaxpr))


def _flops(sizes: Sizes, outputs: int, others: int, traced: bool) -> tuple[float, float]:
    """Operations of a pair by the Jacobian and by its factors."""
    blocks, positions, inputs, width = sizes
    square = outputs if traced else outputs**2
    dense = square * inputs * width + outputs * positions * inputs * width / max(others, 1)
    factored = positions**2 * (inputs + outputs * width)
    if not traced:
        # The cotangents are multiplied with the products of the inputs first.
        factored += outputs**2 * positions * width
    return 2.0 * blocks * dense, 2.0 * blocks * factored


def _largest(jaxpr: Any) -> int:
    return max(
        (prod(v.aval.shape) for e in jaxpr.eqns for v in e.outvars if hasattr(v.aval, "shape")),
        default=0,
    )
