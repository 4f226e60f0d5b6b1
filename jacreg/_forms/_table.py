"""The table from primitive to form: a new primitive is one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._interpret import CALLS
from ._form import Degree, Form, Kind


def _rows(names: str, kind: Kind, degree: Degree, data: Any = None) -> dict[str, Form]:
    return {name: Form(kind, degree, data) for name in names.split()}


FORMS: dict[str, Form] = {
    **_rows(
        "sign floor ceil round is_finite eq ne lt le gt ge eq_to le_to lt_to not and or xor argmax "
        "argmin stop_gradient shift_left shift_right_logical shift_right_arithmetic "
        "population_count clz iota random_bits random_seed random_wrap random_unwrap random_split "
        "random_fold_in threefry2x32 rng_bit_generator bitcast_convert_type "
        "create_token optimization_barrier_token",
        "constant", "zero",
    ),
    **_rows(
        "add sub add_any neg convert_element_type copy copy_p reduce_precision real imag conj "
        "optimization_barrier name sharding_constraint layout_constraint device_put pvary pcast "
        "complex reshard mesh_cast with_memory_space_constraint",
        "elementwise", "linear",
    ),
    **_rows("max min abs rem select_n clamp", "elementwise", "piecewise"),
    **_rows("mul", "elementwise", "bilinear"),
    **_rows(
        "div pow integer_pow square one_minus_square sqrt rsqrt cbrt exp exp2 expm1 log log1p log2 "
        "logistic tanh sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh erf erfc "
        "erf_inv lgamma digamma polygamma bessel_i0e bessel_i1e igamma igammac "
        "regularized_incomplete_beta",
        "elementwise", "smooth",
    ),
    **_rows(
        "transpose squeeze rev slice split unstack concatenate stack tile pad", "moved", "linear"
    ),
    **_rows("broadcast_in_dim reshape dynamic_slice gather", "moved", "linear", (0,)),
    **_rows("dynamic_update_slice", "moved", "linear", (0, 1)),
    **_rows("scatter", "moved", "linear", (0, 2)),
    **_rows("scatter-add scatter-sub", "contraction", "linear", (0, 2)),
    **_rows("reduce_sum cumsum fft", "contraction", "linear"),
    **_rows("dot_general", "contraction", "bilinear"),
    **_rows("conv_general_dilated", "window", "bilinear"),
    **_rows("reduce_window_sum", "window", "linear"),
    **_rows(
        "reduce_max reduce_min cummax cummin reduce_window_max reduce_window_min sort top_k",
        "choice", "piecewise",
    ),
    **_rows("select_and_gather_add select_and_scatter_add", "choice", "linear", (0,)),
    **_rows("cumlogsumexp cumprod reduce_prod remat_opt", "opaque", "smooth"),
    **_rows("scan while", "loop", "smooth"),
    **_rows(" ".join(CALLS), "call", "smooth"),
    **_rows("custom_jvp_call", "call", "smooth"),
}  # fmt: skip

# Of any number of operands: each output is the operand beside it.
SIDE_BY_SIDE = frozenset({"optimization_barrier", "device_put"})
_OPAQUE = Form("opaque", "smooth")


def fits(shape: Sequence[int], into: Sequence[int]) -> bool:
    """Whether an array of one shape can be broadcast to another."""
    if len(shape) > len(into):
        return False
    pairs = zip(reversed(shape), reversed(into), strict=False)
    return all(size in (1, wanted) for size, wanted in pairs)


def _is_broadcast(equation: Any) -> bool:
    into = getattr(equation.outvars[0].aval, "shape", ())
    return all(fits(getattr(atom.aval, "shape", ()), into) for atom in equation.invars)


def form_of(equation: Any) -> Form:
    """The form of an equation of a program: opaque where the table has no row that is true of it.

    Elementwise is true of one output, to whose shape the operands can be broadcast, and bilinear of
    two operands.
    """
    name = equation.primitive.name
    form = FORMS.get(name, _OPAQUE)
    if form.kind == "elementwise" and name not in SIDE_BY_SIDE:
        single = len(equation.outvars) == 1
        return form if single and _is_broadcast(equation) else _OPAQUE
    return _OPAQUE if form.degree == "bilinear" and len(equation.invars) != 2 else form
