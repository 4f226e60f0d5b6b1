"""The table from primitive to form: a new primitive is one row."""

from __future__ import annotations

from typing import Any

from .._interpret import CALLS
from . import _axes as axes
from . import _windows as windows
from ._form import Degree, Form, Kind, Reach, entrywise, everything


def _rows(
    names: str, kind: Kind, degree: Degree, reach: Reach, data: Any = None
) -> dict[str, Form]:
    return {name: Form(kind, degree, reach, data) for name in names.split()}


FORMS: dict[str, Form] = {
    **_rows(
        "sign floor ceil round is_finite eq ne lt le gt ge eq_to le_to lt_to not and or xor argmax "
        "argmin stop_gradient shift_left shift_right_logical shift_right_arithmetic "
        "population_count clz iota random_bits random_seed random_wrap random_unwrap random_split "
        "random_fold_in random_gamma threefry2x32 rng_bit_generator rng_uniform nextafter "
        "bitcast_convert_type create_token optimization_barrier_token",
        "constant", "zero", everything,
    ),
    **_rows(
        "add sub add_any neg convert_element_type copy copy_p reduce_precision real imag conj "
        "optimization_barrier name sharding_constraint layout_constraint device_put pvary",
        "elementwise", "linear", entrywise,
    ),
    **_rows("max min abs rem", "elementwise", "piecewise", entrywise),
    "select_n": Form("elementwise", "piecewise", entrywise),
    "clamp": Form("elementwise", "piecewise", entrywise),
    "mul": Form("elementwise", "bilinear", entrywise),
    **_rows(
        "div pow integer_pow square sqrt rsqrt cbrt exp exp2 expm1 log log1p logistic tanh sin cos "
        "tan asin acos atan atan2 sinh cosh asinh acosh atanh erf erfc erf_inv lgamma digamma "
        "polygamma bessel_i0e bessel_i1e igamma igammac regularized_incomplete_beta",
        "elementwise", "smooth", entrywise,
    ),
    "transpose": Form("moved", "linear", axes.transpose),
    "broadcast_in_dim": Form("moved", "linear", axes.broadcast, (0,)),
    "reshape": Form("moved", "linear", axes.reshape, (0,)),
    "squeeze": Form("moved", "linear", axes.squeeze),
    "rev": Form("moved", "linear", axes.reverse),
    "slice": Form("moved", "linear", axes.cut),
    "split": Form("moved", "linear", axes.split),
    "unstack": Form("moved", "linear", axes.unstack),
    "concatenate": Form("moved", "linear", axes.concatenate),
    "stack": Form("moved", "linear", axes.stack),
    "tile": Form("moved", "linear", axes.tile),
    "pad": Form("moved", "linear", axes.pad),
    "dynamic_slice": Form("moved", "linear", axes.dynamic_cut, (0,)),
    "gather": Form("moved", "linear", everything, (0,)),
    "dynamic_update_slice": Form("moved", "linear", everything, (0, 1)),
    "scatter": Form("moved", "linear", everything, (0, 2)),
    "scatter-add": Form("contraction", "linear", everything, (0, 2)),
    "scatter-sub": Form("contraction", "linear", everything, (0, 2)),
    "reduce_sum": Form("contraction", "linear", axes.summed),
    "cumsum": Form("contraction", "linear", axes.along("axis")),
    "fft": Form("contraction", "linear", everything),
    "dot_general": Form("contraction", "bilinear", axes.dot),
    "conv_general_dilated": Form("window", "bilinear", windows.convolution),
    "reduce_window_sum": Form("window", "linear", windows.pooling),
    **_rows("reduce_max reduce_min", "choice", "piecewise", axes.summed),
    **_rows("cummax cummin", "choice", "piecewise", axes.along("axis")),
    **_rows("reduce_window_max reduce_window_min", "choice", "piecewise", windows.pooling),
    "select_and_gather_add": Form("choice", "linear", everything, (0,)),
    "select_and_scatter_add": Form("choice", "linear", everything, (0,)),
    "sort": Form("choice", "piecewise", axes.along("dimension")),
    "top_k": Form("choice", "piecewise", everything),
    **_rows("cumlogsumexp cumprod", "opaque", "smooth", axes.along("axis")),
    "reduce_prod": Form("opaque", "smooth", axes.summed),
    "scan": Form("loop", "smooth", everything),
    "while": Form("loop", "smooth", everything),
    **_rows(" ".join(CALLS), "call", "smooth", everything),
    "remat_opt": Form("opaque", "smooth", everything),
    "custom_jvp_call": Form("call", "smooth", everything),
}  # fmt: skip

_OPAQUE = Form("opaque", "smooth", everything)


def form_of(equation: Any) -> Form:
    """The form of an equation of a program: opaque where the table has no row."""
    return FORMS.get(equation.primitive.name, _OPAQUE)
