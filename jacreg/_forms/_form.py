"""The algebra of forms: what the readers of a program need to know of a primitive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "elementwise", "moved", "contraction", "window", "choice", "loop", "call", "opaque", "constant"
]
# How the outputs depend on the operands that are differentiated: not at all but by jumps; in a
# linear way, all operands together; in a linear way where no choice changes; in a linear way in
# each operand; with second derivatives of its own.
Degree = Literal["zero", "linear", "piecewise", "bilinear", "smooth"]


@dataclass(frozen=True)
class Form:
    """One row of the table.

    Attributes:
        kind: elementwise (entry by entry), moved (each entry of the output is one of an
            operand, or a constant), contraction (axes summed), window (sums over windows of
            axes), choice (entries or windows chosen by their values), loop, call, opaque
            (JAX's derivative rule and no more is known), constant (no derivative at all).
        degree: how the outputs depend on the differentiated operands.
        data: the operands that are differentiated; the others are indices and the like. None:
            all of them.
    """

    kind: Kind
    degree: Degree
    data: tuple[int, ...] | None = None

    def differentiates(self, which: int) -> bool:
        """Whether operand `which` is one that is differentiated."""
        return self.data is None or which in self.data
