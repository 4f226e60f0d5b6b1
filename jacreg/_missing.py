"""What `jacreg.name` says where there is no such name: a module not imported, or a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import losses

_MODULES = ("nnx", "linen", "eqx", "flow", "equilibrium")

if not TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> None:
        """Raise an AttributeError that says where the name is."""
        if name in _MODULES:
            hint = f"; it is a module of its own: import jacreg.{name}"
        elif name in vars(losses):
            hint = f"; it is jacreg.losses.{name}"
        else:
            hint = ""
        raise AttributeError(f"module 'jacreg' has no attribute {name!r}{hint}")
