"""Operations that are not linear and cannot lengthen differences without bound."""

from __future__ import annotations

from math import ceil, pi, prod, sqrt

from ._linear import RULES, Gain, InTheWay, Rule, Values, alike
from ._program import Step


def _slope(constant: float) -> Rule:
    def rule(step: Step, values: Values) -> Gain:
        return values.gain(step.operands[0]) * constant

    return rule


def _larger(step: Step, values: Values) -> Gain:
    """Of two, or within bounds: entry by entry at most the change of either."""
    return values.spread_together(step.operands, step)


def _window_larger(step: Step, values: Values) -> Gain:
    """An entry is in so many windows, and moves the result of each by at most its own move."""
    params = step.params
    times = prod(
        min(ceil(((n - 1) * dilation + 1) / stride), n)
        for n, dilation, stride in zip(
            params["window_dimensions"],
            params["window_dilation"],
            params["window_strides"],
            strict=True,
        )
    )
    return values.gain(step.operands[0]) * sqrt(times)


def _sorted(step: Step, values: Values) -> Gain:
    if len(step.operands) != 1:
        raise InTheWay(step, "it sorts one array by another, which has jumps")
    return values.gain(step.operands[0])


def _without_bound(why: str) -> Rule:
    def rule(step: Step, values: Values) -> Gain:
        del values
        raise InTheWay(step, why)

    return rule


_STEEP = "its slope has no bound"
_JUMPS = "it has jumps"
NONLINEAR: dict[str, Rule] = {
    "tanh": _slope(1.0),
    "logistic": _slope(0.25),
    "abs": _slope(1.0),
    "sin": _slope(1.0),
    "cos": _slope(1.0),
    "atan": _slope(1.0),
    "asinh": _slope(1.0),
    "erf": _slope(2 / sqrt(pi)),
    "reduce_max": alike,
    "reduce_min": alike,
    "max": _larger,
    "min": _larger,
    "clamp": _larger,
    "reduce_window_max": _window_larger,
    "reduce_window_min": _window_larger,
    "sort": _sorted,
    **dict.fromkeys(
        ("exp", "exp2", "log", "log1p", "expm1", "square", "pow", "sqrt", "rsqrt"),
        _without_bound(_STEEP),
    ),
    **dict.fromkeys(("sign", "floor", "ceil", "round", "argmax", "argmin"), _without_bound(_JUMPS)),
}
TABLE: dict[str, Rule] = {**RULES, **NONLINEAR}
