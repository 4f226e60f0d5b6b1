"""Rules for sums over axes, windows, contractions and convolutions."""

from __future__ import annotations

import numpy as np

from ._boolean import Boolean, ones
from ._operand import Dependence, Equation, Operand, each, everything, merge, rule
from ._pattern import Pattern, apply_axis, place_axes, reduce_axes, transpose, widen
from ._windows import blocks, triangle, window


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
def _reduced(equation: Equation) -> list[Dependence]:
    axes = equation.params["axes"]
    return [each(equation.operands[0].dependence, lambda p: reduce_axes(p, axes))]


@rule("cumsum", "cummax", "cummin", "cumprod", "cumlogsumexp")
def _cumsum(equation: Equation) -> list[Dependence]:
    axis, reverse = equation.params["axis"], equation.params["reverse"]

    def accumulate(pattern: Pattern) -> Pattern:
        return apply_axis(pattern, axis, triangle(pattern.shape[axis], reverse=reverse))

    return [each(equation.operands[0].dependence, accumulate)]


@rule("fft")
def _fft(equation: Equation) -> list[Dependence]:
    axes = range(-len(equation.params["fft_lengths"]), 0)
    return [_mixed(equation, equation.operands[0], *axes)]


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min", "select_and_gather_add")
def _window_sum(equation: Equation) -> list[Dependence]:
    params, shape = equation.params, equation.shapes[0]

    def slide(pattern: Pattern) -> Pattern:
        for axis, taps in enumerate(params["window_dimensions"]):
            pattern = apply_axis(
                pattern,
                axis,
                window(
                    shape[axis],
                    pattern.shape[axis],
                    taps=taps,
                    stride=params["window_strides"][axis],
                    low=params["padding"][axis][0],
                    input_dilation=params["base_dilation"][axis],
                    tap_dilation=params["window_dilation"][axis],
                ),
            )
        return pattern

    # The second operand of select_and_gather_add only says where the maximum is: any
    # entry of the window may be it.
    return [each(equation.operands[0].dependence, slide)]


@rule("select_and_scatter_add")
def _window_scatter(equation: Equation) -> list[Dependence]:
    params, shape = equation.params, equation.shapes[0]

    def scatter(pattern: Pattern) -> Pattern:
        for axis, taps in enumerate(params["window_dimensions"]):
            forward = window(
                pattern.shape[axis],
                shape[axis],
                taps=taps,
                stride=params["window_strides"][axis],
                low=params["padding"][axis][0],
            )
            pattern = apply_axis(pattern, axis, forward.T)
        return pattern

    return [each(equation.operands[0].dependence, scatter)]


@rule("sort")
def _sort(equation: Equation) -> list[Dependence]:
    axis = equation.params["dimension"]
    return [_mixed(equation, operand, axis) for operand in equation.operands]


@rule("top_k")
def _top_k(equation: Equation) -> list[Dependence]:
    (operand,) = equation.operands
    return [_mixed(equation, operand, equation.params.get("axis", -1)), {}]


@rule("triangular_solve")
def _triangular_solve(equation: Equation) -> list[Dependence]:
    matrix, right = equation.operands
    if matrix.dependence:
        return everything(equation, why="solve with a matrix that depends on the input")
    return [_mixed(equation, right, -2 if equation.params["left_side"] else -1)]


@rule("tridiagonal_solve")
def _tridiagonal_solve(equation: Equation) -> list[Dependence]:
    *matrix, right = equation.operands
    if any(diagonal.dependence for diagonal in matrix):
        return everything(equation, why="solve with a matrix that depends on the input")
    return [_mixed(equation, right, -2)]


def _mixed(equation: Equation, operand: Operand, *axes: int) -> Dependence:
    """Where an entry of the first output depends on all of an operand along some axes."""
    shape = equation.shapes[0]
    mixed = {axis % len(shape) for axis in axes}
    kept = {axis: axis for axis in range(len(shape)) if axis not in mixed}
    return each(operand.dependence, lambda pattern: place_axes(pattern, kept, shape))


@rule("dot_general")
def _dot_general(equation: Equation) -> list[Dependence]:
    (contract_left, contract_right), (batch_left, batch_right) = equation.params[
        "dimension_numbers"
    ]
    (left, right), (shape,) = equation.operands, equation.shapes
    parts = [
        _contract(
            left, right, contract_left, contract_right, batch_left, batch_right, shape, False
        ),
        _contract(right, left, contract_right, contract_left, batch_right, batch_left, shape, True),
    ]
    return [merge(*parts)]


def _contract(
    tangent: Operand,
    other: Operand,
    contract: tuple[int, ...],
    contract_other: tuple[int, ...],
    batch: tuple[int, ...],
    batch_other: tuple[int, ...],
    shape: tuple[int, ...],
    other_first: bool,
) -> Dependence:
    """Batch axes, then the left operand's free axes, then the right one's."""
    free = [a for a in range(len(tangent.shape)) if a not in (*contract, *batch)]
    free_other = [a for a in range(len(other.shape)) if a not in (*contract_other, *batch_other)]
    start = len(batch) + (len(free_other) if other_first else 0)
    places = {axis: place for place, axis in enumerate(batch)}
    places |= {axis: place for place, axis in enumerate(free, start)}
    # A structural matrix (interpolation weights made from iota) or a mask on one shows its zeros.
    support = other.support
    resampled = support is not None and len(contract) == 1 and len(free_other) == 1 and not batch

    def product(pattern: Pattern) -> Pattern:
        if resampled:
            assert support is not None
            (axis,) = contract
            matrix = support if free_other[0] == 0 else support.T
            pattern = apply_axis(pattern, axis, Boolean.of_array(matrix))
            order = [axis, *free] if other_first else [*free, axis]
            return transpose(pattern, order)
        return place_axes(pattern, places, shape)

    return each(tangent.dependence, product)


@rule("conv_general_dilated")
def _convolution(equation: Equation) -> list[Dependence]:
    params, shape = equation.params, equation.shapes[0]
    image, kernel = equation.operands
    numbers = params["dimension_numbers"]
    batch, feature, *spatial = numbers.lhs_spec
    _, _, *taps_axes = numbers.rhs_spec
    out_batch, out_feature, *out_spatial = numbers.out_spec
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    if kernel.dependence:
        return everything(equation, why="convolution with a kernel that depends on the input")

    def convolve(pattern: Pattern) -> Pattern:
        for number, axis in enumerate(spatial):
            low, _ = params["padding"][number]
            reads = window(
                shape[out_spatial[number]],
                pattern.shape[axis],
                taps=kernel.shape[taps_axes[number]],
                stride=params["window_strides"][number],
                low=low,
                input_dilation=params["lhs_dilation"][number],
                tap_dilation=params["rhs_dilation"][number],
            )
            pattern = apply_axis(pattern, axis, reads)
        channels = shape[out_feature]
        if groups > 1:
            mixes = blocks(channels, pattern.shape[feature], groups)
        else:
            mixes = ones(channels, pattern.shape[feature])
        pattern = apply_axis(pattern, feature, mixes)
        if batch_groups > 1:
            pattern = widen(pattern, batch, shape[out_batch])
        order = np.argsort([out_batch, out_feature, *out_spatial])
        return transpose(pattern, [(batch, feature, *spatial)[k] for k in order])

    return [each(image.dependence, convolve)]
