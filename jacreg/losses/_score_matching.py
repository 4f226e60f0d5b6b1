"""Score matching by the trace of the score's Jacobian, exact or sliced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from .._checks import check_count
from .._linearize import Linearization
from .._methods import DISTRIBUTIONS, Auto, Distribution, Method
from .._probes import draw, mean_over_probes
from .._structure import example_dot, example_squared_norm
from .._trace import DIVERGENCE, divergence, either_product
from ._checks import check_key, check_linearization, check_method_key, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def implicit_score_matching(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Hyvarinen's objective, tr(ds/dx) + 1/2 ||s(x)||^2.

    Its mean over the data is 1/2 E ||s - grad log p||^2 up to a constant of the data,
    so its minimum over all fields is the score, and its value there is negative.

    Source: Hyvarinen 2005 (JMLR 6), theorem 1, factor 1. Texts that write
    ||s||^2 + 2 tr(ds/dx) have twice this value.

    Args:
        lin: from `linearize`, of the score s: `[N, *in] -> [N, *in]`. For an energy or log
            density take its gradient first.
        method: as for `divergence`; exact by default (`Auto()`), `Hutchinson(...)` and others.
        key: for the stochastic methods.

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the score does not have the shape of `xs`, or a key is missing.
        TypeError: the method does not give a trace.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: -xs, jnp.ones((2, 3)))
        >>> jacreg.losses.implicit_score_matching(lin)
        Array([-1.5, -1.5], dtype=float32)
    """
    check_linearization("implicit_score_matching", lin)
    check_method_key("implicit_score_matching", DIVERGENCE, method, key)
    check_same_shape("implicit_score_matching", "the score", lin.value, lin.xs, "xs")
    return divergence(lin, method, key=key) + 0.5 * example_squared_norm(lin.value)


def sliced_score_matching(
    lin: Linearization,
    *,
    num_probes: int = 1,
    variance_reduced: bool = True,
    key: Array | None,
    distribution: Distribution = "rademacher",
) -> Float[Array, " N"]:
    """Sliced score matching, v^T (ds/dx) v + 1/2 ||s||^2, or + 1/2 (v^T s)^2.

    With E[v v^T] = I both are unbiased for `implicit_score_matching`. The first,
    variance-reduced form (SSM-VR) knows E[(v^T s)^2] = ||s||^2 and has less variance.
    One Jacobian product a probe.

    Source: Song et al. 2019 (Sliced Score Matching, UAI), factor 1 for Rademacher
    and Gaussian slices. Where their code draws unit vectors (the
    general form without variance reduction) its value is 1/d of ours, d the dimension.

    Args:
        lin: from `linearize`, of the score s: `[N, *in] -> [N, *in]`.
        num_probes: independent slices an example.
        variance_reduced: whether the norm of the score is exact.
        key: a new one every step.
        distribution: "rademacher" (no variance from a diagonal Jacobian), "gaussian" or
            "sphere".

    Returns:
        `[N]`, sums over dimensions.

    Raises:
        ValueError: the score does not have the shape of `xs`, the key is missing, or
            `num_probes` or `distribution` is not valid.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: -xs, jnp.ones((2, 3)))
        >>> jacreg.losses.sliced_score_matching(lin, key=jax.random.key(0))
        Array([-1.5, -1.5], dtype=float32)
    """
    who = "sliced_score_matching"
    check_linearization(who, lin)
    check_same_shape(who, "the score", lin.value, lin.xs, "xs")
    check_count(who, "num_probes", num_probes)
    if distribution not in DISTRIBUTIONS:
        raise ValueError(
            f"{who}: distribution must be one of {DISTRIBUTIONS}, got {distribution!r}."
        )

    def sample(probe_key: Array) -> Float[Array, " N"]:
        return sliced_terms(lin, draw(probe_key, lin.xs, distribution), variance_reduced)

    sliced = mean_over_probes(sample, check_key(who, key), num_probes)
    if variance_reduced:
        return sliced + 0.5 * example_squared_norm(lin.value)
    return sliced


def sliced_terms(lin: Linearization, probe: PyTree, variance_reduced: bool) -> Float[Array, " N"]:
    """What of the objective depends on the slice v."""
    curvature = example_dot(probe, either_product(lin, probe))
    if variance_reduced:
        return curvature
    return curvature + 0.5 * jnp.square(example_dot(probe, lin.value))
