"""An upper bound of a linear map's norm that holds always."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

import jax
import jax.numpy as jnp

from .._operator_norm import traced_map
from .._structure import common_dtype
from ._dense import fits, matrix_of
from ._double import in_double
from ._linear import RULES, InTheWay, TooLarge, Values, beside, rounded_up
from ._program import Program, Tracked, read_program
from ._verified import matrix_bound

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def operator_norm_bound(
    linear_map: Callable[[Array], Array],
    in_shape: SupportsIndex | Sequence[SupportsIndex],
    *,
    dtype: Any = None,
) -> Float[Array, ""]:
    """An upper bound of a linear map's largest singular value: it holds always.

    The map's program is read: matrices, convolutions and window sums with any stride, padding,
    dilation, groups and layout, in one to three dimensions, axes moved, slices, sums,
    concatenations, and all that is composed of them, in short loops and known branches too.
    Nothing is drawn at random. Where `operator_norm` comes close from below, this is never below:
    rounding is counted, and it is computed in double precision whatever the map's own is.

    - Where the map has at most 4096 entries a side, within 1 % of its own norm.
    - A larger convolution is bounded on an unbounded image, which holds for an image of any size
      with zeros around it: within 1 % of that, from which images of 32 pixels differ little.
    - A larger composition is bounded by the product of its parts, a sum by their sum.

    A constant offset (a bias) does not count. Differentiable, in forward and in reverse mode, in
    the parameters that the map closes over.

    Args:
        linear_map: an array of `in_shape` to an array, as for `operator_norm`.
        in_shape: shape of the map's argument.
        dtype: of the argument and of the result; None means JAX's default float.

    Returns:
        A scalar; 0 where the map is zero.

    Raises:
        ValueError: the map is not linear, or has an operation that has no bound; the message
            names it.
        TypeError: `linear_map` is no function, or is not of real numbers.

    Source:
        Gram iteration: Delattre et al. 2023 (arXiv:2305.16173) and 2024 (arXiv:2402.00240); from
        finitely many frequencies to all: M. Riesz 1914, Ehlich and Zeller 1964.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> smooth = lambda x: jnp.convolve(x, jnp.ones(3), mode="same")
        >>> bool(2.618 < jacreg.operator_norm_bound(smooth, (4,)) < 2.618 * 1.01)
        True
    """
    who = "operator_norm_bound"
    _, program = traced_map(who, linear_map, in_shape, dtype, read_program)
    for step in program.steps:
        if step.name not in RULES:
            raise ValueError(
                f"operator_norm_bound: linear_map is not linear, or not in operations that are "
                f"read: {step.name}{step.where()} has no row. For the norm of a Jacobian at a "
                "point use spectral_norm(linearize(fn, xs), key=key); along a network with "
                "activations lipschitz_bound(layers, xs)."
            )
    tracked = [out for out in program.outputs if isinstance(out, Tracked)]
    result = common_dtype((program.argument.dtype, *(out.dtype for out in tracked)))
    if not jnp.issubdtype(result, jnp.floating):
        raise TypeError(f"operator_norm_bound: needs real floating-point values, got {result}.")
    dense = fits(program)
    try:
        with jax.enable_x64(True):  # says what is in the way before anything is computed
            jax.eval_shape(lambda: gain_of(program, program.knowns, written_out=dense))
        bound = partial(written_out_bound if dense else gain_of, program.without_knowns())
        return in_double(bound, program.knowns, result)
    except InTheWay as error:
        raise ValueError(
            f"operator_norm_bound: no bound can be given for linear_map, for {error}."
        ) from None


_PRODUCTS = frozenset({"dot_general", "conv_general_dilated", "reduce_window_sum"})


def written_out_bound(program: Program, knowns: Sequence[Array]) -> Float[Array, ""]:
    """The bound of a small linear program, from its matrix."""
    bound = matrix_bound(matrix_of(program, knowns))
    if any(step.name in _PRODUCTS for step in program.steps):
        return bound
    return jnp.minimum(bound, gain_of(program, knowns))  # often exact, and costs nothing


def gain_of(
    program: Program, knowns: Sequence[Array], *, written_out: bool = False
) -> Float[Array, ""]:
    """The gain of a linear program's outputs together, from those of its steps."""
    values = Values(knowns)
    for step in program.steps:
        try:
            gain = RULES[step.name](step, values)
        except TooLarge:
            if not written_out:
                raise
            gain = jnp.zeros((), jnp.float64)
        values.gains.update((out.index, gain) for out in step.outs)
    gain = beside([values.gain(out) for out in program.outputs])
    return rounded_up(gain, len(program.steps))
