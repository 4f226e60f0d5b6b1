"""jacreg's method objects by the names that a config uses: `projection`, `exact`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jacreg

if TYPE_CHECKING:
    from train.config import Named


@dataclass(frozen=True)
class Deferred:
    """A method that is made from the task's function, by `resolve`."""

    name: str


def coloring() -> Deferred:
    """Exact, in as few products as the function's locality allows; dense where it has none."""
    return Deferred("coloring")


METHODS: Mapping[str, Callable[..., Any]] = {
    "exact": jacreg.Exact,
    "projection": jacreg.Projection,
    "hutchinson": jacreg.Hutchinson,
    "hutch_plus_plus": jacreg.HutchPlusPlus,
    "xtrace": jacreg.XTrace,
    "noise_injection": jacreg.NoiseInjection,
    "coupled_batch": jacreg.CoupledBatch,
    "coloring": coloring,
}


def make_method(named: Named) -> Any:
    """Return the method object; its constructor checks the options.

    Raises:
        ValueError, TypeError: an option is out of range.
    """
    return METHODS[named.name](**named.options)


def resolved(method: Any, fn: Callable[..., Any], xs: Any, *args: Any, quantity: str) -> Any:
    """Return the method, a colouring made for `fn` and this quantity where it was deferred.

    Args:
        method: from `make_method`.
        fn: the batched function that will be linearised, of the shapes of training.
        xs, args: a batch.
        quantity: as for `jacreg.color`.
    """
    if isinstance(method, Deferred):
        return jacreg.color(fn, xs, *args, quantity=quantity)
    return method
