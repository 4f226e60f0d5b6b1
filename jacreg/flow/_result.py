"""What integrating a flow gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    from .._plan import Plan


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "log_density",
        "values",
        "kinetic_energy",
        "frobenius_squared",
        "num_evaluations",
        "num_steps",
        "converged",
        "remaining",
    ),
    meta_fields=("plan",),
)
@dataclass(frozen=True)
class FlowResult:
    """What integrating a flow gives; see `log_density` and `sample`. A pytree.

    Attributes:
        log_density: `[N]`, in nats, a sum over dimensions. None from `sample`.
        values: `[N, *in]`, the latents of `log_density`, or the samples.
        kinetic_energy: `[N]`, the integral of norm(f)^2; None unless asked for.
        frobenius_squared: `[N]`, the integral of norm(df/dx)_F^2, or its estimate; None unless
            asked for.
        num_evaluations: how often the solver called the field on the batch (NFE).
        num_steps: that the solver took, rejected ones included.
        converged: whether the solver reached the end within its steps, with finite values in
            every row. Where it is False the other values are those of the time at which it gave
            up, or not finite, and not to be used.
        remaining: the share of the time that was left when it gave up; 0 where it converged.
        plan: how the divergence was taken along the path, a `jacreg.plan` made once for the
            solve; None from `sample`.

    Example:
        >>> import jax.numpy as jnp, jacreg.flow
        >>> found = jacreg.flow.log_density(lambda xs, ts: 0 * xs + 1, jnp.ones((1, 2)))
        >>> found.values.round(), bool(found.converged), found.plan.path
        (Array([[2., 2.]], dtype=float32), True, 'colouring')
    """

    log_density: Float[Array, " N"] | None
    values: Float[Array, "N *in"]
    kinetic_energy: Float[Array, " N"] | None
    frobenius_squared: Float[Array, " N"] | None
    num_evaluations: Int[Array, ""]
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]
    remaining: Float[Array, ""]
    plan: Plan | None = None
