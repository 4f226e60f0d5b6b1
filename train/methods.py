"""jacreg's method objects by the names that a config uses: `projection`, `exact`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jacreg

if TYPE_CHECKING:
    from train.config import Named

METHODS: Mapping[str, Callable[..., Any]] = {
    "exact": jacreg.Exact,
    "projection": jacreg.Projection,
    "hutchinson": jacreg.Hutchinson,
    "hutch_plus_plus": jacreg.HutchPlusPlus,
    "xtrace": jacreg.XTrace,
    "noise_injection": jacreg.NoiseInjection,
    "coupled_batch": jacreg.CoupledBatch,
}


def make_method(named: Named) -> Any:
    """Return the method object; its constructor checks the options.

    Raises:
        ValueError, TypeError: an option is out of range.
    """
    return METHODS[named.name](**named.options)
