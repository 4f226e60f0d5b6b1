"""Ways of `Auto()` by colours, found from the program alone while it is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._choice import Choice, Unfit, check_worth, product_cost
from .._dependence import LengthError
from .._linearize import Linearization
from .._recent import Recent
from ._apart import DENSE_APART, DIAGONAL_APART, NORM_APART, TRACE_APART, by_colors_apart
from ._apply import (
    by_colors,
    dense_by_colors,
    diagonal_by_colors,
    entries_by_colors,
    norm_by_colors,
    trace_by_colors,
)
from ._color import Found, plan_of
from ._narrow import Apart, find_apart
from ._reading import structural_key

if TYPE_CHECKING:
    from .._choice import Way
    from ._apart import ComputeApart
    from ._apply import Compute


# A joint graph of more edges takes seconds to colour, too long for a trace: `color` does it once.
_MOST_EDGES = 1_000_000
# More colours than this part of the products without them are many: values may be set apart.
_MANY = 4
# Colourings of the programs seen last, or why there is none.
_FOUND: Recent[Found | Apart | str] = Recent(64)


def _way(quantity: str, compute: Compute | None, apart: ComputeApart | None = None) -> Way:
    """Way of a quantity by colours that are found while it is traced.

    Args:
        quantity: as colours know it.
        compute: from colours; None where they serve beside values that are set apart alone.
        apart: from colours and values that are set apart, with the products that an entry of
            these takes; None where these serve nothing.
    """

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        check_worth(product_cost(lin), limit, "a colouring")
        each = apart.products if apart else 0
        key = (structural_key(lin), quantity, each)
        found = _FOUND.get(key, lambda: _find(lin, quantity, each))
        if isinstance(found, str):
            raise Unfit(found)
        if isinstance(found, Apart) and apart is not None:
            return by_colors_apart(lin, found, apart)
        if compute is None:
            raise Unfit("no values are set apart")
        return by_colors(lin, found.plan, found.relation, compute)

    return way


def _find(lin: Linearization, quantity: str, each: int) -> Found | Apart | str:
    try:
        found = plan_of(lin, quantity, most_edges=_MOST_EDGES, opened=True)
    except LengthError as error:
        return f"no colours can be read ({error})"
    side = min(lin.inputs.size, lin.outputs.size)
    if each and found.plan.num_colors > side // _MANY:
        few = min(side, found.plan.num_colors)
        apart = find_apart(lin, found.program, quantity, few, each=each, most_edges=_MOST_EDGES)
        if apart is not None:
            return apart
    if not found.is_dense:
        return found
    return f"colours save nothing ({found.dense_because[0]}{found.place})"


diagonal_by_found_colors = _way("divergence", diagonal_by_colors, DIAGONAL_APART)
trace_by_found_colors = _way("divergence", trace_by_colors, TRACE_APART)
norm_by_found_colors = _way("frobenius", norm_by_colors, NORM_APART)
jacobian_by_found_colors = _way("frobenius", dense_by_colors, DENSE_APART)
entries_by_found_colors = _way("frobenius", entries_by_colors)
diagonal_by_values_apart = _way("divergence", None, DIAGONAL_APART)
trace_by_values_apart = _way("divergence", None, TRACE_APART)
