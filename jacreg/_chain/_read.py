"""Read the linear program of a Jacobian as a sum of chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._convolution import is_convolution, name_for_users
from .._interpret import CALLS, bind, equations, interpret, interpret_inner
from .._linearize import Linearization
from .._source import place
from ._chain import Chain, Layer, Unreadable
from ._channels import concatenate, pad, rev, slice_, split
from ._tangent import Tangent, canonical_shape, open_units
from ._unit_axes import broadcast_in_dim, reduce_sum, reshape


def read_chains(lin: Linearization) -> tuple[Chain, ...]:
    """Return the chains whose sum is the Jacobian of a linearised function.

    Raises:
        Unreadable: the program has an operation that is none of a chain's.
        DirectionError: the function has no forward mode.
    """
    if len(lin.inputs.shapes) != 1 or len(lin.outputs.shapes) != 1:
        raise Unreadable("several leaves")
    dtype = lin.inputs.dtype
    if dtype != lin.outputs.dtype or dtype not in (jnp.float32, jnp.float64):
        raise Unreadable("low or mixed precision")
    (shape,) = lin.inputs.shapes
    if not shape or 0 in (*shape, lin.num_examples):
        raise Unreadable("no channels")
    linear = lin.program.linear
    roles, dims = _input_roles(linear, len(shape) + 1)
    whole = (lin.num_examples, *shape)
    axes, canonical = open_units(roles, whole), canonical_shape(roles, whole, dims)
    start = Tangent(axes, (Chain((canonical,), ((),)),))
    (output,) = interpret(linear, lin.residuals, [start], _apply)
    if isinstance(output, Obstacle):
        raise output
    if not isinstance(output, Tangent) or output.axes != axes:
        raise Unreadable("the output has another layout")
    if any(chain.shape != canonical for chain in output.chains):
        raise Unreadable("the output has another shape")
    settled = (chain.settled() for chain in output.chains)
    return tuple(chain for chain in settled if chain is not None)


def _input_roles(jaxpr: Any, rank: int) -> tuple[tuple[int, ...], int]:
    """The layout of the first convolution, or channels last; the number of spatial axes.

    Images of one channel may come without an axis for it.
    """
    for equation in filter(is_convolution, equations(jaxpr)):
        batch, feature, *spatial = equation.params["dimension_numbers"].lhs_spec
        roles = _roles(len(spatial) + 2, batch, feature, spatial)
        if equation.invars[0].aval.shape[feature] == 1 and len(roles) == rank + 1:
            roles = tuple(role for role in roles if role != len(spatial) + 1)
        # It may be none of the chain's: what must hold is that examples are the first axis.
        if len(roles) == rank and roles[0] == 0:
            return roles, len(spatial)
    return tuple(range(rank)), rank - 2


def _roles(rank: int, batch: int, feature: int, spatial: Any) -> tuple[int, ...]:
    roles = [0] * rank
    for role, axis in enumerate((batch, *spatial, feature)):
        roles[axis] = role
    return tuple(roles)


class Obstacle(Unreadable):
    """An operation that is none of a chain's, with its place in the user's file.

    Until something else needs what it gives, it is of no account.
    """

    def __init__(self, equation: Any, error: Unreadable) -> None:
        name, what = name_for_users(equation), str(error)
        super().__init__(name if what == name else f"{what}, {name}")
        self.place = place(equation)

    def __str__(self) -> str:
        return f"{super().__str__()}{self.place}"


def _apply(equation: Any, operands: list[Any]) -> list[Any]:
    if equation.outvars and all(0 in variable.aval.shape for variable in equation.outvars):
        return [jnp.zeros(v.aval.shape, v.aval.dtype) for v in equation.outvars]
    for operand in operands:
        if isinstance(operand, Obstacle):
            return [operand] * len(equation.outvars)
    try:
        outs = _by_rule(equation, operands)
    except Unreadable as error:
        return [Obstacle(equation, error)] * len(equation.outvars)
    for out in outs:
        if isinstance(out, Obstacle):
            # In a program inside this one, which says what; where may be known out here alone.
            out.place = out.place or place(equation)
    return outs


def _by_rule(equation: Any, operands: list[Any]) -> list[Any]:
    name = equation.primitive.name
    has_tangent = any(isinstance(operand, Tangent) for operand in operands)
    if not has_tangent and name not in CALLS:
        return _evaluate(equation, operands)
    if name in CALLS:
        return interpret_inner(equation, operands, _apply)
    if name not in RULES:
        raise Unreadable(name)
    if (what := other_form(equation)) is not None:
        raise Unreadable(what)
    found = RULES[name](equation, *operands)
    outputs = found if isinstance(found, list) else [found]
    # Arithmetic in a program broadcasts axes of size one, which no layer of a chain does.
    for output, variable in zip(outputs, equation.outvars, strict=True):
        if isinstance(output, Tangent) and not output.has_shape(variable.aval.shape):
            raise Unreadable("a broadcast")
    return outputs


def _evaluate(equation: Any, operands: list[Any]) -> list[Any]:
    """An operation on constants."""
    if equation.effects:
        raise Unreadable("effects")
    if any(True for _ in jex.jaxprs_in_params(equation.params)):
        raise Unreadable("a program among constants")
    return bind(equation, operands)


def _scale(tangent: Tangent, factor: Any) -> Tangent:
    if jnp.ndim(factor) or not tangent.axes:
        # One number for a whole example, a channel or all examples: `[N, 1]`, `[1, D]`. What all
        # examples share stays one row.
        whole = tangent.shape(jnp.shape(factor))
        pairs = zip(jnp.shape(factor), whole, strict=True) if jnp.ndim(factor) == len(whole) else ()
        if jnp.ndim(factor) != len(whole) or any(have not in (1, want) for have, want in pairs):
            raise Unreadable("a factor of another shape")
        factor = tangent.canonical(jnp.broadcast_to(factor, whole))
    return Tangent(tangent.axes, tuple(chain.scaled(factor) for chain in tangent.chains))


def _mul(equation: Any, left: Any, right: Any) -> Tangent:
    del equation
    return _scale(left, right) if isinstance(left, Tangent) else _scale(right, left)


def _div(equation: Any, left: Any, right: Any) -> Tangent:
    del equation
    if not isinstance(left, Tangent):
        raise Unreadable("division by a tangent")
    return _scale(left, 1 / right)


def _neg(equation: Any, operand: Tangent) -> Tangent:
    del equation
    return _scale(operand, -1.0)


def _add(equation: Any, left: Any, right: Any) -> Tangent:
    """A constant summand of a linear program is a zero that a derivative rule wrote out."""
    del equation
    if not (isinstance(left, Tangent) and isinstance(right, Tangent)):
        return left if isinstance(left, Tangent) else right
    return left.plus(right)


def _sub(equation: Any, left: Any, right: Any) -> Tangent:
    return _add(equation, left, _scale(right, -1.0) if isinstance(right, Tangent) else 0)


def _same(equation: Any, operand: Tangent) -> Tangent:
    if equation.outvars[0].aval.dtype != equation.invars[0].aval.dtype:
        raise Unreadable("a change of precision")
    return operand


def _select(equation: Any, which: Any, *cases: Any) -> Tangent:
    """A constant among the cases of a linear program is zero."""
    if isinstance(which, Tangent):
        raise Unreadable("a condition on a tangent")
    dtype = equation.outvars[0].aval.dtype
    total = None
    for number, case in enumerate(cases):
        if isinstance(case, Tangent):
            chosen = _masked(case, jnp.asarray(which, jnp.int32) == number, dtype)
            total = chosen if total is None else _add(equation, total, chosen)
    assert total is not None
    return total


def _masked(tangent: Tangent, mask: Any, dtype: Any) -> Tangent:
    """Zero where the mask is false, of a factor that is not finite there, too."""
    mask = mask.astype(dtype)
    if jnp.ndim(mask):
        if jnp.shape(mask) != tangent.shape(jnp.shape(mask)):
            raise Unreadable("a condition of another shape")
        mask = tangent.canonical(mask)
    else:
        mask = jnp.broadcast_to(mask, (1, *tangent.chains[0].shape))
    return Tangent(tangent.axes, tuple(chain.conditioned(mask) for chain in tangent.chains))


def _transpose(equation: Any, operand: Tangent) -> Tangent:
    order = equation.params["permutation"]
    return Tangent(tuple(operand.axes[a] for a in order), operand.chains)


def other_form(equation: Any) -> str | None:
    """What an operation is called whose parameters alone say that no chain has it."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        contract, batch = params["dimension_numbers"]
        return "a contraction of another form" if batch[0] or len(contract[0]) != 1 else None
    if name == "conv_general_dilated":
        strides = (params["window_strides"], params["lhs_dilation"], params["rhs_dilation"])
        strided = any(s != 1 for each in strides for s in each)
        grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
        return "a convolution of another form" if strided or grouped else None
    return None


def _dot_general(equation: Any, left: Any, right: Any) -> Tangent:
    contract, _ = equation.params["dimension_numbers"]
    first = isinstance(left, Tangent)
    tangent, matrix = (left, right) if first else (right, left)
    (axis,), (other,) = contract if first else contract[::-1]
    channels = tangent.channels
    if (
        isinstance(matrix, Tangent) or jnp.ndim(matrix) != 2
        or not tangent.may_be(axis, channels)
    ):  # fmt: skip
        raise Unreadable("a contraction of another form")
    kernel = jnp.moveaxis(matrix, other, 0)
    rest = tuple(role for place, role in enumerate(tangent.axes) if place != axis)
    spatial = channels - 1
    layer = Layer(kernel.reshape((1,) * spatial + kernel.shape), (0,) * spatial)
    roles = (*rest, channels) if first else (channels, *rest)
    return _through(tangent, roles, layer, equation)


def _convolution(equation: Any, image: Any, kernel: Any) -> Tangent:
    params = equation.params
    numbers = params["dimension_numbers"]
    rank = len(numbers.lhs_spec)
    batch, feature, *spatial = numbers.lhs_spec
    if (
        isinstance(kernel, Tangent) or rank != image.channels + 1
        or not image.has_roles(_roles(rank, batch, feature, spatial))
    ):  # fmt: skip
        raise Unreadable("a convolution of another form")
    out, into, *taps = numbers.rhs_spec
    layer = Layer(
        jnp.transpose(kernel, (*taps, into, out)), tuple(low for low, _ in params["padding"])
    )
    batch, feature, *spatial = numbers.out_spec
    return _through(image, _roles(rank, batch, feature, spatial), layer, equation)


def finest_precision(lin: Linearization) -> jax.lax.Precision | None:
    """The finest precision that a product of a linear program asks for, None for none.

    Raises:
        Unreadable: one asks for an algorithm of its own.
    """
    order = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGH, jax.lax.Precision.HIGHEST)
    return max(_precisions(lin.program.linear), key=order.index, default=None)


def _precisions(jaxpr: Any) -> Iterator[jax.lax.Precision]:
    for equation in equations(jaxpr):
        found = equation.params.get("precision")
        for each in found if isinstance(found, tuple) else (found,):
            if isinstance(each, jax.lax.Precision):
                yield each
            elif each is not None:
                raise Unreadable("a product by an algorithm of its own")


def _through(tangent: Tangent, roles: tuple[int, ...], layer: Layer, equation: Any) -> Tangent:
    shape, dtype = equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype
    if any(atom.aval.dtype != dtype for atom in equation.invars):
        raise Unreadable("low or mixed precision")
    canonical = canonical_shape(roles, shape, tangent.channels - 1)
    if 0 in canonical:
        raise Unreadable("an empty layer")
    chains = tuple(chain.through(layer, canonical) for chain in tangent.chains)
    return Tangent(open_units(roles, shape), chains)


RULES: dict[str, Callable[..., Any]] = {
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "add": _add,
    "add_any": _add,
    "sub": _sub,
    "convert_element_type": _same,
    "copy": _same,
    "copy_p": _same,
    "select_n": _select,
    "transpose": _transpose,
    "reshape": reshape,
    "squeeze": reshape,
    "broadcast_in_dim": broadcast_in_dim,
    "reduce_sum": reduce_sum,
    "concatenate": concatenate,
    "pad": pad,
    "rev": rev,
    "slice": slice_,
    "split": split,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
}
