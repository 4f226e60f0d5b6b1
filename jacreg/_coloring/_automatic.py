"""Ways of `Auto()` by colours, found from the program alone while it is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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
from ._coloring import KINDS
from ._local import (
    LOCAL_DIAGONAL,
    LOCAL_NORM,
    LOCAL_TRACE,
    ComputeLocal,
    Local,
    by_local_directions,
    layers_of,
)
from ._narrow import Apart, find_apart
from ._reading import linear_program, structural_key

if TYPE_CHECKING:
    from .._choice import Way
    from ._apart import ComputeApart
    from ._apply import Compute


# A joint graph of more edges takes seconds to colour, too long for a trace: `color` does it once.
_MOST_EDGES = 1_000_000
# More colours than this part of the products without them are many: values may be set apart.
_MANY = 4
# So few products are hardly worth a longer program.
_FEW = 8


class _Known(NamedTuple):
    """What was found for a program.

    Attributes:
        found: its colours, unless they save nothing.
        apart: values that are set apart.
        local: local directions, where they are worth it.
        why: no colours save anything.
    """

    found: Found | None
    apart: Apart | None
    local: Local | None
    why: str


# What was found for the programs seen last.
_FOUND: Recent[_Known] = Recent(64)


def _way(
    quantity: str,
    compute: Compute | None,
    apart: ComputeApart | None = None,
    local: ComputeLocal | None = None,
) -> Way:
    """Way of a quantity by colours that are found while it is traced.

    Args:
        quantity: as colours know it.
        compute: from colours; None where they serve beside values that are set apart alone.
        apart: from colours and values that are set apart, with the products that an entry of
            these takes; None where these serve nothing.
        local: from local directions; None where they do not give it.
    """

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        check_worth(product_cost(lin), limit, "a colouring")
        each = apart.products if apart else 0
        key = (structural_key(lin), quantity, each, local is None)
        known = _FOUND.get(key, lambda: _find(lin, quantity, each, local))
        choices = []
        if known.apart is not None and apart is not None:
            choices.append(by_colors_apart(lin, known.apart, apart))
        elif known.found is not None and compute is not None:
            choices.append(by_colors(lin, known.found.plan, known.found.relation, compute))
        if known.local is not None and local is not None:
            choices.append(by_local_directions(lin, known.local, local))
        if not choices:
            raise Unfit(known.why or "no values are set apart")
        return min(choices, key=lambda choice: choice.cost)

    return way


def _find(lin: Linearization, quantity: str, each: int, compute: ComputeLocal | None) -> _Known:
    try:
        program = linear_program(lin, opened=True)
        layers = layers_of(lin, program) if compute else None
        found = plan_of(lin, quantity, most_edges=_MOST_EDGES, program=program, cut=layers)
    except LengthError as error:
        return _Known(None, None, None, f"no colours can be read ({error})")
    side = min(lin.inputs.size, lin.outputs.size)
    if each and found.plan.num_colors > side // _MANY:
        few = min(side, found.plan.num_colors)
        apart = find_apart(lin, found.program, quantity, few, each=each, most_edges=_MOST_EDGES)
        if apart is not None:
            return _Known(None, apart, None, "")
    few = min(side, found.plan.num_colors)
    local = None
    if layers is not None and not found.plan.reverse and few > _FEW:
        local = layers.plan(KINDS[quantity], found.plan, few * product_cost(lin))
    if not found.is_dense:
        return _Known(found, None, local, "")
    why = f"colours save nothing ({found.dense_because[0]}{found.place})"
    return _Known(None, None, local, why)


diagonal_by_found_colors = _way("divergence", diagonal_by_colors, DIAGONAL_APART, LOCAL_DIAGONAL)
trace_by_found_colors = _way("divergence", trace_by_colors, TRACE_APART, LOCAL_TRACE)
norm_by_found_colors = _way("frobenius", norm_by_colors, NORM_APART, LOCAL_NORM)
jacobian_by_found_colors = _way("frobenius", dense_by_colors, DENSE_APART)
entries_by_found_colors = _way("frobenius", entries_by_colors)
diagonal_by_values_apart = _way("divergence", None, DIAGONAL_APART)
trace_by_values_apart = _way("divergence", None, TRACE_APART)
