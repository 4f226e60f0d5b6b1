"""Ways of `Auto()` by colours, found from the program alone while it is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._choice import Choice, Unfit, check_worth, product_cost
from .._dependence import LengthError
from .._linearize import Linearization
from .._recent import Recent
from ._apply import (
    by_colors,
    dense_by_colors,
    diagonal_by_colors,
    entries_by_colors,
    norm_by_colors,
    trace_by_colors,
)
from ._color import plan_of
from ._plan import Plan
from ._reading import structural_key
from ._relation import Relation

if TYPE_CHECKING:
    from .._choice import Way
    from ._apply import Compute


# A joint graph of more edges takes seconds to colour, too long for a trace: `color` does it once.
_MOST_EDGES = 1_000_000
# Colourings of the programs seen last, or why there is none.
_FOUND: Recent[tuple[Plan, Relation] | str] = Recent(64)


def _way(quantity: str, compute: Compute) -> Way:
    """Way of a quantity by colours that are found while it is traced."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        check_worth(product_cost(lin), limit, "a colouring")
        found = _FOUND.get((structural_key(lin), quantity), lambda: _find(lin, quantity))
        if isinstance(found, str):
            raise Unfit(found)
        return by_colors(lin, *found, compute)

    return way


def _find(lin: Linearization, quantity: str) -> tuple[Plan, Relation] | str:
    try:
        found = plan_of(lin, quantity, most_edges=_MOST_EDGES)
    except LengthError as error:
        return f"no colours can be read ({error})"
    if not found.is_dense:
        return found.plan, found.relation
    return f"colours save nothing ({found.dense_because[0]}{found.place})"


diagonal_by_found_colors = _way("divergence", diagonal_by_colors)
trace_by_found_colors = _way("divergence", trace_by_colors)
norm_by_found_colors = _way("frobenius", norm_by_colors)
jacobian_by_found_colors = _way("frobenius", dense_by_colors)
entries_by_found_colors = _way("frobenius", entries_by_colors)
