"""Penalties on how the loss's gradient changes near an example: CURE and GradAlign."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from .._structure import example_norm, example_squared_norm
from ._checks import check_batch, check_key, check_scale, per_example
from ._input_gradient import input_gradient
from ._noise_injection import shift

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

_DIRECTIONS = ("sign", "gradient")


def curvature_penalty(
    loss_fn: Callable[[Any, Any], Any],
    xs: Float[Array, "N *in"],
    labels: PyTree,
    *,
    step: Float[Array, ""] | Float[Array, " N"] | float,
    direction: Literal["sign", "gradient"] = "sign",
) -> Float[Array, " N"]:
    """Squared change of the loss's gradient along itself, ||grad l(x + h z) - grad l(x)||^2.

    z is the sign of the gradient over its norm, or the gradient over its norm, and held
    fixed: the gradient passes through both gradients of the loss, double backpropagation,
    and not through z. The value tends to h^2 ||H z||^2 with H the Hessian of the loss.
    Where the gradient is zero so is z, and the value.

    Source: Moosavi-Dezfooli et al. 2019 (Robustness via curvature regularization, and vice
    versa, CURE), factor 1: 1 / h^2 is in their weight. `loss_fn` is each example's own loss.

    Args:
        loss_fn: `loss_fn(xs, labels) -> [N]`, one number an example, pure: both calls must
            draw the same dropout masks.
        xs: `[N, *in]`, a pytree of such.
        labels: share the batch axis, any dtype, not differentiated.
        step: h, the Euclidean length of the step in units of the input, a positive number
            or one for each example, `[N]`; may be traced.
        direction: "sign", the paper's, or "gradient".

    Returns:
        `[N]`, sums over inputs.

    Raises:
        ValueError: `loss_fn` does not return one number an example, the step is not
            positive and finite, or the direction is unknown.
        TypeError: `xs` is not floating point.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> loss_fn = lambda xs, labels: jnp.square(xs - labels).sum(axis=1)
        >>> jacreg.losses.curvature_penalty(
        ...     loss_fn, jnp.ones((2, 4)), jnp.zeros((2, 4)), step=0.5
        ... )
        Array([1., 1.], dtype=float32)
    """
    who = "curvature_penalty"
    xs, num_examples = check_batch(who, xs)
    step = check_scale(who, step, num_examples, name="step", what="a length in units of the input")
    if direction not in _DIRECTIONS:
        raise ValueError(f"{who}: direction must be one of {_DIRECTIONS}, got {direction!r}.")
    before, dtype = input_gradient(who, loss_fn, xs, (labels,))
    along = jax.lax.stop_gradient(before)
    along, _ = _unit(jax.tree.map(jnp.sign, along) if direction == "sign" else along)
    along = jax.tree.map(lambda z, x: z.astype(x.dtype), along, xs)
    after, _ = input_gradient(who, loss_fn, shift(xs, along, step), (labels,))
    return example_squared_norm(jax.tree.map(jnp.subtract, after, before)).astype(dtype)


def gradient_alignment_penalty(
    loss_fn: Callable[[Any, Any], Any],
    xs: Float[Array, "N *in"],
    labels: PyTree,
    *,
    radius: Float[Array, ""] | Float[Array, " N"] | float,
    key: Array | None,
) -> Float[Array, " N"]:
    """Misalignment of the loss's gradient at random neighbours, 1 - cos(grad l(x), grad l(x + e)).

    e is uniform in [-radius, radius] in every dimension. Double backpropagation, through both
    gradients. Where either gradient is zero there is no angle: the value and its
    derivative are zero there.

    Source: Andriushchenko and Flammarion 2020 (Understanding and Improving Fast Adversarial
    Training, GradAlign), factor 1, their radius the eps of the attack.

    Args:
        loss_fn: `loss_fn(xs, labels) -> [N]`, one number an example, pure: both calls must
            draw the same dropout masks.
        xs: `[N, *in]`, a pytree of such.
        labels: share the batch axis, any dtype, not differentiated.
        radius: in the maximum norm, in units of the input, a positive number or one for
            each example, `[N]`; may be traced.
        key: a new one every step.

    Returns:
        `[N]`, between 0 and 2.

    Raises:
        ValueError: `loss_fn` does not return one number an example, the radius is not
            positive and finite, or the key is missing.
        TypeError: `xs` is not floating point.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.gradient_alignment_penalty(
        ...     lambda xs, labels: labels * xs.sum(axis=1), jnp.ones((2, 4)), jnp.ones(2),
        ...     radius=0.1, key=jax.random.key(0),
        ... )
        Array([0., 0.], dtype=float32)
    """
    who = "gradient_alignment_penalty"
    xs, num_examples = check_batch(who, xs)
    radius = check_scale(
        who, radius, num_examples, name="radius", what="a distance in units of the input"
    )
    noise = _uniform(check_key(who, key), xs)
    here, dtype = input_gradient(who, loss_fn, xs, (labels,))
    there, _ = input_gradient(who, loss_fn, shift(xs, noise, radius), (labels,))
    (here, some), (there, others) = _unit(here), _unit(there)
    # 1 - cos as a square: no cancellation where the gradients are nearly parallel.
    apart = 0.5 * example_squared_norm(jax.tree.map(jnp.subtract, here, there))
    return jnp.where(some & others, apart, 0).astype(dtype)


def _unit(tree: PyTree) -> tuple[PyTree, Array]:
    """Each example over its norm, zero where that is zero, and where it is not."""
    norm = example_norm(tree)
    some = norm > 0
    safe = jnp.where(some, norm, 1)
    return jax.tree.map(lambda leaf: leaf / per_example(safe, leaf), tree), some


def _uniform(key: Array, xs: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(xs)
    keys = jax.random.split(key, len(leaves))
    draws = [
        jax.random.uniform(k, x.shape, jnp.float32, -1.0, 1.0).astype(x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, draws)
