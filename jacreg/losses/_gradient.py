"""Penalties on the gradient of one number an example: critics and losses."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._structure import example_norm, example_squared_norm
from ._input_gradient import Reduction, input_gradient

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def gradient_penalty(
    fn: Callable[..., Any],
    xs: Float[Array, "N *in"],
    *args: PyTree,
    target: Float[Array, ""] | float = 1.0,
    reduction: Reduction | None = None,
) -> Float[Array, " N"]:
    """Squared distance of each gradient's norm from a target, (||grad fn(x)|| - target)^2.

    With target 1 the penalty of WGAN-GP (Gulrajani et al. 2017), at points between real
    and generated examples, `xs = e * real + (1 - e) * fake` with e uniform, one an example;
    our weight is their lambda (10). With target 0, ||grad fn(x)||^2, it is R1 at real and
    R2 at generated examples (Mescheder et al. 2018): our weight is their gamma / 2.

    Args:
        fn: critic, `[N, *in] -> [N]`, one number an example; with a reduction
            `[N, *out]`, a critic of patches say.
        xs: `[N, *in]`, a pytree of such.
        *args: further inputs of `fn` that share the batch axis and are not
            differentiated: labels, conditions.
        target: the norm to have, finite; may be traced.
        reduction: "sum" or "mean" of each example's outputs, taken before the gradient.
            The sum is what `ones_like` outputs as cotangents give; by the mean a gradient
            is divided by the number of outputs, and its norm still has to be `target`.

    Returns:
        `[N]`. Where the gradient is zero and the target is not, the derivative of
        the norm is taken as zero.

    Raises:
        ValueError: `fn` does not return one number an example and no reduction is
            named, or the target is not finite.
        TypeError: `xs` is not floating point, or the target is no number.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> jacreg.losses.gradient_penalty(lambda xs: xs.sum(axis=1), jnp.zeros((2, 4)))
        Array([1., 1.], dtype=float32)
    """
    who = "gradient_penalty"
    is_zero = _check_target(who, target)
    gradient, dtype = input_gradient(who, fn, xs, args, reduction, may_reduce=True)
    if is_zero:
        return example_squared_norm(gradient).astype(dtype)
    norm = example_norm(gradient)
    return jnp.square(norm - jnp.asarray(target, norm.dtype)).astype(dtype)


def loss_gradient_penalty(
    loss_fn: Callable[[Any, Any], Any],
    xs: Float[Array, "N *in"],
    labels: PyTree,
    *,
    reduction: Reduction | None = None,
) -> Float[Array, " N"]:
    """Squared norm of the loss's gradient in the input, ||d loss(x, y) / d x||^2.

    Double backpropagation (Drucker and LeCun 1992), also known as input gradient
    regularisation (Ross and Doshi-Velez 2018). No factor 1/2: for a weight on half the
    square halve it. Per example: where a text differentiates the batch mean of the
    loss, its gradients are 1/N of ours, and its squares summed over the batch are 1/N
    of our batch mean.

    Args:
        loss_fn: `loss_fn(xs, labels) -> [N]`, one number an example; with a reduction
            `[N, *out]`, a loss a pixel say.
        xs: `[N, *in]`, a pytree of such.
        labels: share the batch axis, any dtype, not differentiated.
        reduction: "sum" or "mean" of each example's losses, taken before the gradient.

    Returns:
        `[N]`, sums over inputs.

    Raises:
        ValueError: `loss_fn` does not return one number an example (a mean, say) and no
            reduction is named, or the labels do not share the batch axis.
        TypeError: `xs` is not floating point.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> loss_fn = lambda xs, labels: jnp.square(xs[:, 0] - labels)
        >>> jacreg.losses.loss_gradient_penalty(loss_fn, jnp.ones((2, 3)), jnp.zeros(2))
        Array([4., 4.], dtype=float32)
    """
    gradient, dtype = input_gradient(
        "loss_gradient_penalty", loss_fn, xs, (labels,), reduction, may_reduce=True
    )
    return example_squared_norm(gradient).astype(dtype)


def _check_target(who: str, target: Any) -> bool:
    """Whether the target is known to be zero; raise where it is no finite number."""
    if isinstance(target, bool | str | complex) or target is None:
        raise TypeError(f"{who}: target must be a real number, got {target!r}.")
    if jnp.ndim(target) != 0:
        raise ValueError(f"{who}: target must be a scalar, got shape {jnp.shape(target)}.")
    try:
        value = float(target)
    except jax.errors.ConcretizationTypeError:
        return False
    if not isfinite(value):
        raise ValueError(f"{who}: target must be finite, got {value}.")
    return value == 0
