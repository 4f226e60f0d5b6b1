"""What lies in front of a field's second derivatives, and so comes back in its Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .._convolution import is_convolution
from .._forms import Form, form_of
from .._interpret import inner_program, opened, propagate


class Front(NamedTuple):
    """What a value has behind it.

    Attributes:
        layers: convolutions and matrices, the most on one way.
        joined: whether a convolution reads an image that was made of several parts of one (padded
            by a circle, a reflection): on the way back it is taken apart, which no chain has.
        open: axes along which the value is made of several parts.
    """

    layers: int = 0
    joined: bool = False
    open: frozenset[int] = frozenset()


def bends(jaxpr: Any, of_xs: int) -> Front:
    """What lies in front of all that has second derivatives.

    Args:
        jaxpr: of a function, not its derivative.
        of_xs: how many of its inputs, the first ones, are differentiated.

    What is in a loop, or in a derivative rule alone, is not counted.
    """
    given = [Front() if number < of_xs else None for number in range(len(jaxpr.invars))]
    return _read(jaxpr, given)[1]


def _read(jaxpr: Any, given: Sequence[Front | None]) -> tuple[list[Front | None], Front]:
    """What lies in front of each output, None where it does not depend on x, and of all bends."""
    most = Front()

    def step(equation: Any, own: list[Front | None]) -> Sequence[Front | None]:
        nonlocal most
        form = form_of(equation)
        if form.degree == "zero":
            return [None] * len(equation.outvars)
        if form.kind == "call":
            outs, inside = _read(opened(inner_program(equation))[0], own)
            most = _both([most, inside])
            return outs
        known = _both([each for each in own if each is not None])
        if form.degree == "smooth" or (
            form.degree == "bilinear" and sum(each is not None for each in own) > 1
        ):
            most = _both([most, known])
        return [_behind(equation, form, own, known)] * len(equation.outvars)

    return propagate(jaxpr, given, step), most


def _both(fronts: Sequence[Front]) -> Front:
    return Front(
        max(each.layers for each in fronts),
        any(each.joined for each in fronts),
        frozenset().union(*(each.open for each in fronts)),
    )


def _behind(equation: Any, form: Form, own: Sequence[Front | None], known: Front) -> Front:
    name, params = equation.primitive.name, equation.params
    layers = known.layers + is_layer(equation)
    if name == "concatenate" and sum(each is not None for each in own) > 1:
        return known._replace(open=known.open | {params["dimension"]})
    if name == "conv_general_dilated":
        windows = params["dimension_numbers"].lhs_spec[2:]
        return Front(layers, known.joined or not known.open.isdisjoint(windows))
    return Front(layers, known.joined, _moved(equation, form, known.open))


def _moved(equation: Any, form: Form, axes: frozenset[int]) -> frozenset[int]:
    """Where axes are behind an operation, as far as its shapes tell."""
    if not axes:
        return axes
    if equation.primitive.name == "transpose":
        order = equation.params["permutation"]
        return frozenset(place for place, axis in enumerate(order) if axis in axes)
    if form.kind not in ("elementwise", "moved"):
        return frozenset()
    old, new = (each[0].aval.shape for each in (equation.invars, equation.outvars))
    if len(old) == len(new):
        return axes
    # Axes of one entry come and go.
    before, after = ([axis for axis, n in enumerate(shape) if n != 1] for shape in (old, new))
    if [old[axis] for axis in before] != [new[axis] for axis in after]:
        return frozenset()
    return frozenset(b for a, b in zip(before, after, strict=True) if a in axes)


def is_layer(equation: Any) -> int:
    """1 for a convolution or a matrix, 0 for anything else."""
    return int(is_convolution(equation) or equation.primitive.name == "dot_general")
