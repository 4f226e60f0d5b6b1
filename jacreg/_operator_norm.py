"""Largest singular value of a linear map that is given as a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp

from ._errors import note_mistake
from ._linearize import Linearization, linearize
from ._probes import draw
from ._spectral_norm import leading_pair
from ._structure import norm, shape_of_argument

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class LeadingTriple(NamedTuple):
    """Operator norm with unit vectors: `linear_map(right)` is about `value * left`.

    `value` carries the gradient into the map's parameters, the vectors carry none.
    """

    value: Float[Array, ""]
    left: Float[Array, " *out"]
    right: Float[Array, " *in"]


def operator_norm(
    linear_map: Callable[[Array], Array],
    in_shape: SupportsIndex | Sequence[SupportsIndex],
    *,
    key: Array,
    dtype: Any = None,
    tolerance: float = 1e-3,
    max_steps: int | None = None,
) -> Float[Array, ""]:
    """Largest singular value of any linear map, so of a convolution of any kind.

    The map is used through its products with vectors and its transpose's, as JAX
    derives them: stride, padding, dilation, groups and layout need no formula. See
    `spectral_norm` for how, for the tolerance and for the gradient, which flows into
    the parameters that the map closes over.

    A constant offset (a bias) does not count: the norm is that of the linear part. A
    map that is not affine raises; where it is only known to be so under jit, the result
    is nan.

    Args:
        linear_map: an array of `in_shape` to an array, no batch axis added by this
            function: for a batched layer use `lambda x: layer(x[None])[0]`, or put a
            batch of one into `in_shape`.
        in_shape: shape of the map's argument.
        key: for the random start.
        dtype: of the argument; None means JAX's default float.
        tolerance: relative error.
        max_steps: as for `spectral_norm`.

    Returns:
        A scalar; 0 where the map is zero or a side has no dimensions.

    Raises:
        ValueError: the map is not affine, or an argument is out of range.
        TypeError: `linear_map` is no function, its output is not floating point, or it
            lacks a derivative in a direction that is needed.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> smooth = lambda x: jnp.convolve(x, jnp.ones(3), mode="same")
        >>> jacreg.operator_norm(smooth, (4,), key=jax.random.key(0)).round(3)
        Array(2.618, dtype=float32)
    """
    return leading_triple(
        linear_map, in_shape, key=key, dtype=dtype, tolerance=tolerance, max_steps=max_steps
    ).value


def leading_triple(
    linear_map: Callable[[Array], Array],
    in_shape: SupportsIndex | Sequence[SupportsIndex],
    *,
    key: Array,
    dtype: Any = None,
    tolerance: float = 1e-3,
    max_steps: int | None = None,
) -> LeadingTriple:
    """Operator norm with its left and right singular vectors; arguments as `operator_norm`."""
    lin = _linearize_at_zero(linear_map, in_shape, dtype)
    found = leading_pair("operator_norm", lin, key, tolerance, max_steps)
    trusted = found.converged[0] & _affine(lin, jax.random.fold_in(key, 1))
    value = jnp.where(trusted, found.value[0], jnp.nan).astype(lin.outputs.dtype)
    left, right = lin.outputs.unflatten(found.left), lin.inputs.unflatten(found.right)
    return LeadingTriple(value, left[0], right[0])


def _linearize_at_zero(
    linear_map: Callable[[Array], Array],
    in_shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: Any,
) -> Linearization:
    struct, _ = traced_map("operator_norm", linear_map, in_shape, dtype, jax.eval_shape)
    point = jnp.zeros((1, *struct.shape), struct.dtype)
    return linearize(lambda xs: _add_batch_axis(linear_map(xs[0])), point)


def traced_map(
    who: str, linear_map: Any, in_shape: Any, dtype: Any, trace: Callable[[Any, Any], Any]
) -> tuple[jax.ShapeDtypeStruct, Any]:
    """The type of a linear map's argument, and what `trace` gives for the map and that type.

    Raises:
        TypeError: the map is no function.
        ValueError: it does not take such an argument.
    """
    if not callable(linear_map):
        raise TypeError(
            f"{who}: linear_map must be a function of one array, got "
            f"{type(linear_map).__name__}; for a matrix write lambda x: matrix @ x."
        )
    shape = shape_of_argument(who, in_shape)
    struct = jax.ShapeDtypeStruct(shape, jnp.result_type(float) if dtype is None else dtype)
    try:
        return struct, trace(linear_map, struct)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{who}: the map does not take an input of shape {shape} and dtype "
            f"{jnp.dtype(struct.dtype)}: {str(error).splitlines()[0]} in_shape is that of one "
            "input, without a batch axis."
        ) from error
    except Exception as error:
        note_mistake(error)
        raise


def _add_batch_axis(output: Any) -> Any:
    return jax.tree.map(lambda y: jnp.asarray(y)[None], output)


def _affine(lin: Linearization, key: Array) -> Bool[Array, ""]:
    """Whether f(x) - f(0) = J x at a random x; raises where the values are at hand."""
    lin = jax.lax.stop_gradient(lin)
    point = draw(key, lin.xs, "gaussian")
    flatten = lin.outputs.flatten
    predicted = flatten(lin.jvp(point))
    origin = flatten(lin.value)
    difference = flatten(lin.evaluate(point)) - origin
    eps = max(float(jnp.finfo(d).eps) for d in lin.inputs.dtypes + lin.outputs.dtypes)
    rounding = 64 * eps * (norm(predicted) + norm(difference) + norm(origin))
    excess = norm(difference - predicted) - rounding - 1e-3 * norm(predicted)
    affine = ~(excess[0] > 0)
    try:
        wrong = not bool(affine)
    except jax.errors.ConcretizationTypeError:
        return affine
    if wrong:
        raise ValueError(
            "operator_norm: linear_map is not linear: f(x) - f(0) differs from J x by "
            f"{float(norm(difference - predicted)[0]):.3g}, with J x of length "
            f"{float(norm(predicted)[0]):.3g}. Leave out the activation, or use "
            "spectral_norm(linearize(fn, xs), key=key) for the norm of the Jacobian at a point."
        )
    return affine
