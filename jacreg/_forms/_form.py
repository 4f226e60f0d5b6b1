"""The algebra of forms: what the readers of a program need to know of a primitive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal[
    "elementwise", "moved", "contraction", "window", "choice", "loop", "call", "opaque", "constant"
]
# How the outputs depend on the operands that are differentiated: not at all but by jumps; in a
# linear way, all operands together; in a linear way where no choice changes; in a linear way in
# each operand; with second derivatives of its own.
Degree = Literal["zero", "linear", "piecewise", "bilinear", "smooth"]

# Which entries of something each entry of an array sees: `[*dims, entries]`, where an axis of
# `dims` has length 1 if the entries along it all see the same. (A boolean ndarray; NumPy annotates
# reductions of one as perhaps a scalar.)
Seen = Any
# `reach(equation, which, seen)`: what the outputs see of what operand `which` sees, an array an
# output.
Reach = Callable[[Any, int, Seen], list[Seen]]


@dataclass(frozen=True)
class Form:
    """One row of the table.

    Attributes:
        kind: elementwise (entry by entry), moved (each entry of the output is one of an
            operand, or a constant), contraction (axes summed), window (sums over windows of
            axes), choice (entries or windows chosen by their values), loop, call, opaque
            (JAX's derivative rule and no more is known), constant (no derivative at all).
        degree: how the outputs depend on the differentiated operands.
        reach: which entries see which; where it is not known, all see all.
        data: the operands that are differentiated; the others are indices and the like. None:
            all of them.
    """

    kind: Kind
    degree: Degree
    reach: Reach
    data: tuple[int, ...] | None = None

    def differentiates(self, which: int) -> bool:
        """Whether operand `which` is one that is differentiated."""
        return self.data is None or which in self.data


def everything(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Every entry of each output sees what any entry of the operand sees."""
    del which
    everywhere = seen.reshape(-1, seen.shape[-1]).any(axis=0)
    return [everywhere.reshape((1,) * np.ndim(out.aval) + everywhere.shape)
            for out in equation.outvars]  # fmt: skip


def entrywise(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Entry by entry; an operand without axes goes to every entry."""
    del which
    rank = equation.outvars[0].aval.ndim
    return [seen if seen.ndim == rank + 1 else seen.reshape((1,) * rank + seen.shape[-1:])]


def spread(seen: Seen, axis: int, size: int) -> Seen:
    """The same with the axis written out."""
    shape = (*seen.shape[:axis], size, *seen.shape[axis + 1 :])
    return np.broadcast_to(seen, shape)


def compact(seen: Seen) -> Seen:
    """The same with length 1 on each axis along which nothing changes."""
    for axis in range(seen.ndim - 1):
        if seen.shape[axis] > 1:
            first = seen[(slice(None),) * axis + (slice(0, 1),)]
            if (seen == first).all():
                seen = first
    return seen
