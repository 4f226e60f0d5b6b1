"""Training from a config file, `python -m train CONFIG [section.key=value ...]`, or from Python.

What the data does on its way, in one direction: config -> data -> model ->
linearisation -> loss and penalty -> step -> record -> report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.fitting import Fit as Fit
    from train.fitting import fit as fit

__all__ = ["Fit", "fit"]


def __getattr__(name: str) -> Any:
    # JAX takes seconds to import: a command's --help should not.
    if name in __all__:
        from train import fitting

        return getattr(fitting, name)
    raise AttributeError(f"module 'train' has no attribute {name!r}")
