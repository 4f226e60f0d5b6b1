"""Errors that carry what came, what was expected and what to do."""

from __future__ import annotations


class DirectionError(TypeError):
    """The function has no derivative in the direction that was asked for.

    A function with a custom VJP has no forward mode, a function with a
    `while_loop` has no reverse mode. It is a TypeError so that callers who do
    not know jacreg catch it as one.
    """
