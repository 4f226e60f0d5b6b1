"""Which linear programs JAX transposes, told without doing it."""

from __future__ import annotations

from typing import Any

from ._interpret import CALLS, inner_program, on_tangents, opened

# Linear in all operands, and in one of two. JAX transposes each in every form of it; what else a
# program may hold (a loop, a scatter whose indices may meet) is tried.
_LINEAR = frozenset(
    {
        "add", "add_any", "broadcast_in_dim", "concatenate", "convert_element_type", "copy",
        "copy_p", "cumsum", "dynamic_slice", "dynamic_update_slice", "gather", "neg", "pad",
        "reduce_sum", "reduce_window_sum", "reshape", "rev", "scatter-add", "slice", "split",
        "squeeze", "sub", "transpose",
    }
)  # fmt: skip
_BILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})
# Linear in all operands but one.
_OTHER = {"div": 1, "select_n": 0}
PLAIN = _LINEAR | _BILINEAR | frozenset(_OTHER)


def is_transposable(jaxpr: Any, along: list[bool] | None = None) -> bool:
    """Whether every operation on a tangent is one that JAX transposes, whatever its parameters.

    Args:
        jaxpr: linear in its inputs, or in some of them.
        along: which inputs are tangents; None means all.
    """
    return all(_is_transposable(*each) for each in on_tangents(jaxpr, along))


def _is_transposable(equation: Any, along: list[bool]) -> bool:
    name = equation.primitive.name
    if name in CALLS:
        inner, _ = opened(inner_program(equation))
        return is_transposable(inner, along)
    if name in _BILINEAR:
        return sum(along) == 1
    if name in _OTHER:
        return not along[_OTHER[name]]
    return name in _LINEAR
