"""Traces of cycles of convolutions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ._bilinear import bilinear, center
from ._chain import Unreadable
from ._cycle import Cycle
from ._triple import triple

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def local_trace(cycle: Cycle, num_examples: int) -> Float[Array, " B"]:
    """Trace of a cycle with spatial axes, `[N or 1]`.

    Raises:
        Unreadable: more diagonals than are carried here.
    """
    count, modulated = len(cycle.layers), cycle.modulated
    if count == 1:
        return center(cycle)
    if count == 2:
        return bilinear(cycle)
    if count == 3 and len(modulated) <= 2:
        # Two diagonals in front, the space without one behind them.
        free = next(i for i in range(3) if i not in modulated)
        return bilinear(cycle.rotated((free + 1) % 3))
    if any(layer.reads is not None for layer in cycle.layers):
        raise Unreadable("too many convolutions with a padding of their own")
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
        return bilinear(cycle.rotated(modulated[0] if modulated else 0))
    if count == 4 and len(modulated) <= 3:
        free = next(i for i in range(4) if i not in modulated)
        return triple(cycle.rotated(free), num_examples)
    raise Unreadable("too many diagonals between convolutions")
