"""The loss of mean flows: average velocities from one JVP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._linearize import linearize
from .._structure import accumulate_dtype, example_squared_norm
from ._checks import check_batch, check_function, check_same_shape, per_example

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def mean_flow_loss(
    field: Callable[[Any, Any, Any], Any],
    xs: Float[Array, "N *in"],
    velocities: Float[Array, "N *in"],
    r: Float[Array, " N"] | Float[Array, ""] | float,
    t: Float[Array, " N"] | Float[Array, ""] | float,
) -> Float[Array, " N"]:
    """Squared distance of an average velocity from its target, ||u - sg(v - (t - r) du/dt)||^2.

    u(z, r, t) is the mean of the velocity v over the times from r to t along the path that
    is at z at time t, so that z - (t - r) u(z, r, t) is one step from t to r. The total
    derivative du/dt = v du/dz + du/dt is one JVP along (v, 0, 1); no gradient passes
    through the target. With r = t it is the loss of flow matching.

    Source: Geng et al. 2025 (Mean Flows for One-step Generative Modeling,
    arXiv:2505.13447), factor 1. Their adaptive weight is the caller's:
    `loss / jax.lax.stop_gradient(loss + c) ** p`.

    Args:
        field: u, `(zs [N, *in], r [N], t [N]) -> [N, *in]`; close over labels.
        xs: `[N, *in]`, points z at time t, `(1 - t) data + t noise` in the paper; a pytree of such.
        velocities: `[N, *in]`, v at them, `noise - data`, or a guided one; no gradient passes.
        r: where the average starts, one an example, `[N]`, or a number for all.
        t: where it ends, likewise.

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the field or the velocities do not have the shape of `xs`, or a time is
            neither one number nor one an example.
        TypeError: `xs` or a time is not floating point, or (DirectionError) the field has
            no forward mode.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> data, noise, t = jnp.zeros((2, 3)), jnp.ones((2, 3)), jnp.full(2, 0.5)
        >>> jacreg.losses.mean_flow_loss(
        ...     lambda zs, r, t: zs / t[:, None], 0.5 * data + 0.5 * noise, noise - data, 0.0, t
        ... )
        Array([0., 0.], dtype=float32)
    """
    who = "mean_flow_loss"
    check_function(who, "field", field)
    xs, num_examples = check_batch(who, xs)
    check_same_shape(who, "velocities", velocities, xs, "xs")
    dtype = jax.tree.leaves(xs)[0].dtype
    r, t = (_times(who, *each, num_examples, dtype) for each in (("r", r), ("t", t)))

    def of_all(point: PyTree) -> PyTree:
        values = field(*point)
        check_same_shape(who, "the field", values, xs, "xs")
        return values

    point: Any = (xs, r, t)
    lin = linearize(of_all, point, mode="forward")
    velocities = jax.tree.map(lambda v, x: jnp.asarray(v, x.dtype), velocities, xs)
    slope = lin.jvp((velocities, jnp.zeros_like(r), jnp.ones_like(t)))

    def residual(u: Array, v: Array, rate: Array) -> Array:
        wide = accumulate_dtype(u.dtype)
        span = per_example(t.astype(wide) - r.astype(wide), u)
        target = v.astype(wide) - span.astype(wide) * rate.astype(wide)
        return u.astype(wide) - jax.lax.stop_gradient(target)

    wide = jax.tree.map(residual, lin.value, velocities, slope)
    return example_squared_norm(wide).astype(jax.tree.leaves(lin.value)[0].dtype)


def _times(who: str, name: str, times: Any, num_examples: int, dtype: Any) -> Float[Array, " N"]:
    array = jnp.asarray(times, dtype if isinstance(times, int | float) else None)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{who}: {name} must be floating point, got {array.dtype}.")
    if array.shape not in ((), (num_examples,)):
        raise ValueError(
            f"{who}: {name} must be one number or one an example, shape ({num_examples},), got "
            f"shape {array.shape}."
        )
    return jnp.broadcast_to(array, (num_examples,))
