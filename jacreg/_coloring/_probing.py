"""Random signs on the classes of a partial colouring: unbiased, exact once the colours suffice.

Entry i of v * (J v), v of random signs within a class, is J_ii + sum_j s_i s_j J_ij over the j of
its class: what it meets there has mean zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._choice import Choice, product_cost
from .._dependence import LengthError
from .._linearize import Linearization
from .._methods import Probing, require_key
from .._probes import draw, mean_over_probes
from .._recent import Recent
from ._apply import diagonal_by_colors, norm_by_colors, trace_by_colors
from ._check import unreadable
from ._coloring import ColoringError
from ._partial import partial_plan
from ._plan import Plan
from ._reading import dependence_of, structural_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._choice import Way

_FOUND: Recent[Plan] = Recent(64)


def _way(quantity: str, kind: str, compute: Any) -> Way:
    """Way of a quantity that colours give, with signs."""

    def way(lin: Linearization, method: Probing, limit: float) -> Choice:
        plan = _plan_of(lin, kind, method)
        products = plan.num_colors * method.num_probes

        def run(key: Any) -> Any:
            return mean_over_probes(
                lambda probe_key: compute(lin, plan, None, _signs(lin, plan, probe_key)),
                require_key(quantity, method, key),
                method.num_probes,
            )

        reason = f"random signs on {plan.how}"
        return Choice("partial colouring", products, reason, products * product_cost(lin), run)

    return way


def _plan_of(lin: Linearization, kind: str, method: Probing) -> Plan:
    count = method.num_products // method.num_probes
    return _FOUND.get((structural_key(lin), kind, count), lambda: _find(lin, kind, count))


def _find(lin: Linearization, kind: str, count: int) -> Plan:
    try:
        relation, _, _ = dependence_of(lin)
    except LengthError as error:
        raise ColoringError(unreadable("Probing", error)) from error
    return partial_plan(
        relation, kind, count, forward=lin.no_forward is None, reverse=lin.no_reverse is None
    )


def _signs(lin: Linearization, plan: Plan, key: Array) -> Float[Array, "N k"]:
    side, like = (lin.outputs, lin.value) if plan.reverse else (lin.inputs, lin.xs)
    return side.flatten(draw(key, like, "rademacher"))


diagonal_by_probing = _way("diagonal", "diagonal", diagonal_by_colors)
trace_by_probing = _way("divergence", "diagonal", trace_by_colors)
norm_by_probing = _way("frobenius_squared", "columns", norm_by_colors)
