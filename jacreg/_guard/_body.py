"""What an equation that has programs inside says of masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ._axes import Clauses
from ._values import Mask

Masks = Sequence[Mask | None]


def clauses_given(masks: Masks) -> list[Clauses | None]:
    """What a body knows of masks of the program around."""
    return [None if mask is None else mask.clauses for mask in masks]


class Changed(NamedTuple):
    """An equation with a changed body: the masks that this reads of the program around, and a
    function of its operands and of these masks that evaluates it.
    """

    masks: Sequence[Mask]
    bind: Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]]


class Body(Protocol):
    """What an equation with programs inside does with masks."""

    linear_out: Sequence[bool]

    def through(self, masks: Masks) -> Masks:
        """Where its outputs may differ from zero, of its inputs' masks."""
        ...

    def asked(self, masks: Masks) -> Masks:
        """Where its inputs have an effect, of its outputs' masks."""
        ...

    def changed(self, through: Masks, asked: Masks) -> Changed | None:
        """The equation with factors replaced in its programs, None where none is."""
        ...


# Of an equation, which of its operands are linear and which are the same for all examples.
Shared = Sequence[bool] | None
BodyOf = Callable[[Any, Sequence[bool], Shared], Body | None]
